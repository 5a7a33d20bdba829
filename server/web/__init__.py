"""The browser client: how it is made (`build.py`) and served (`site.py`); its sources are in `app/`."""
