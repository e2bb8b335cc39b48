"""The Python face: the path of the command line, with frames in place of files and objects in place of TOML tables.

    log = upnext.EventLog.from_frame(events, {"user": "user_id", "item": "item_id", "time": "time"})
    model = upnext.SASRec(width=64).fit(log)
    model.recommend(["u00018", "u00042"], k=10)

Nothing is computed here: every method calls the stage of the same name, which leaves the same artifacts as `upnext
run`. Without a folder of its own a log keeps them in a temporary one, which goes when the objects go.
"""

from upnext.api.log import Columns, EventLog
from upnext.api.models import ARGUS, Estimator, Popular, RecentlyPopular, SASRec
from upnext.api.recommender import Recommender, load

__all__ = ["ARGUS", "Columns", "Estimator", "EventLog", "Popular", "RecentlyPopular", "Recommender", "SASRec", "load"]
