from rectiflow.fitting import fit as fit
from rectiflow.saved import load as load
from rectiflow.trained import Trained as Trained
