"""What each node of a graph is to a rule; see `base` for the idea, `registry` for the table."""

from innvest_lite.forms.base import KINDS, Form, LinearForm
from innvest_lite.forms.registry import form_of, forms_of, register_form

__all__ = ["KINDS", "Form", "LinearForm", "form_of", "forms_of", "register_form"]
