"""Whether clicks mean anything here: do people agree, what do models foretell, what precision may be promised."""
