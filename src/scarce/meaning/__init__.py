"""What a latent means: the genes it moves, the cells that use it, and whether it comes back."""

from scarce.meaning.account import account, store
from scarce.meaning.programme import Programmes, programmes
from scarce.meaning.seeds import Reproducibility, stability

__all__ = ["Programmes", "Reproducibility", "account", "programmes", "stability", "store"]
