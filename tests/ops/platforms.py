"""The forms that operations have on other platforms, run on the CPU."""

import jax


def use_forms_of(platform, monkeypatch):
    """Programs traced from now on have the forms of `platform`; functions that are jitted already keep theirs."""

    def choose(*arguments, default, **forms):
        return forms.get(platform, default)(*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
