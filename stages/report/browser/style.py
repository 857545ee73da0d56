"""The style of all pages. Grey text has a contrast of at least 4.5 to its ground."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; max-width: 1280px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin: 0; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
a { color: #2a5a9e; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .22rem .5rem; text-align: right; border-bottom: 1px solid #eef0f3; white-space: nowrap; }
th { border-bottom: 2px solid #c8ced8; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
.wide { overflow-x: auto; max-width: 100%; background: linear-gradient(to left, #fff 1.5rem, #fff0 3rem) local,
  linear-gradient(to left, #c8ced8, #fff0 .5rem) scroll; }
figure { margin: 1rem 0; } img, canvas { max-width: 100%; height: auto; }
.long { white-space: normal; overflow-wrap: anywhere; display: inline-block; min-width: 26rem; text-align: left; }
td:first-child { white-space: normal; min-width: 9rem; }
.half { color: #5c6470; white-space: nowrap; } td:has(> .mean, > .best) { white-space: normal; } .best { font-weight: 650; }
figcaption, .note { color: #545d6b; font-size: .87rem; }
pre { background: #f5f6f8; padding: 1rem; overflow-x: auto; font-size: .8rem; }
nav ol { columns: 16rem; padding-left: 1.4rem; margin: .6rem 0; }
details.section { scroll-margin-top: 3rem; margin-top: 1.2rem; border-bottom: 1px solid #dde1e7; padding-bottom: .4rem; }
details.section > summary { cursor: pointer; } :is(summary h2, summary h3) { display: inline; }
.tools { position: sticky; top: 0; z-index: 2; background: #fff; padding: .4rem 0; border-bottom: 1px solid #dde1e7; }
[hidden] { display: none !important; }
input[type=search] { font: inherit; width: 20rem; max-width: 60%; } button { font: inherit; }
.all :is(th, td):nth-child(-n+4), .all :is(th, td):nth-child(n+6):nth-child(-n+7) { text-align: left; }
th[aria-sort] { cursor: pointer; } th[aria-sort=ascending]::after { content: " ▲"; }
th[aria-sort=descending]::after { content: " ▼"; }
.mean { color: inherit; text-decoration: underline dotted #8a93a0; text-underline-offset: .2em; }
:focus-visible { outline: 2px solid #2a5a9e; outline-offset: 1px; }
#tip { position: fixed; z-index: 3; background: #1d2430; color: #fff; padding: .3rem .6rem; border-radius: 4px;
  font-size: .82rem; white-space: pre; font-variant-numeric: tabular-nums; }
.moving input[type=range] { width: 24rem; max-width: 50%; vertical-align: middle; }
.lines svg { font-size: 11px; }
.lines text { paint-order: stroke; stroke: #fff; stroke-width: 3px; pointer-events: none; }
.lines .run path { fill: none; stroke-width: 1.8; }
.lines .run { outline: none; } .lines .run:is(:hover, :focus) path { stroke-width: 3.5; }
.lines svg:has(.run:is(:hover, :focus)) .run:not(:hover, :focus) { opacity: .15; }
.pictures :is(th, td) { border: 0; padding: .1rem .6rem .1rem 0; text-align: left; vertical-align: middle; }
.pictures th { font-weight: 400; white-space: normal; } .pictures :is(th, td):first-child { min-width: 7.5rem; }
.pictures img { display: block; max-width: none; image-rendering: pixelated; } .pictures figcaption { max-width: 60rem; }
@media print { .tools { display: none; } }
"""
