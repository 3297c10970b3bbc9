import logging

from automm.api import hookimpl


@hookimpl
def automm_trial_finished(report):
    logging.getLogger("acme").info("trial %s: %s", report["number"], report["state"])


automm_trial_finished({"number": 3, "state": "complete"})  # a real report has more
