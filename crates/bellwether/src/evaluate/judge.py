"""Judges one set for `bellwether evaluate`, with the referee and the rules of the evaluation kit.

Reads one JSON object from standard input and writes one to standard output:
  {"do": "hashes", "files": [...]}                      -> {file: sha256}; with "as": NAME, {NAME: sha256 of all of them in a row}
  {"do": "reference", "seeds": [...]}                   -> the kit's reference rules on these synthetic fleets
  {"do": "set", "name": "oulad-silence", "scores": F, "cut_scores": F, "cut": DATE, "alerts": {budget: F}, "default": budget}
                                                        -> alerts and scores; without scores, alerts only
  {"do": "learned", "name": "oulad-silence", "scores": F, "out": DIR}
                                                        -> scores, and those of the kit's scorers, learned before the same date
  {"do": "nab", "detections": DIR, "threshold": X}      -> scores of the Numenta Anomaly Benchmark
"""
import contextlib
import hashlib
import importlib.util
import json
import sys
import types

sys.dont_write_bytecode = True  # the kit may be read-only
request = json.load(sys.stdin)
sys.path.insert(0, request["kit"])
BOOT = 200
# Alerts of this kind are about a rise, which is news but no risk. The referee counts all kinds.
SPIKE = "usage_spike"
# Thresholds of the z rules: from "everything is an alarm" to far beyond what a week can show.
Z_THRESHOLDS = [x / 10 for x in range(-5, 81)]


def hashes():
    if request.get("as"):
        whole = hashlib.sha256()
        for name in request["files"]:
            whole.update(open(name, "rb").read())
        return {request["as"]: whole.hexdigest()}
    return {name: hashlib.sha256(open(name, "rb").read()).hexdigest() for name in request["files"]}


def reference():
    import power

    calibrate = [9001, 9002]
    rows = power.reference(request["seeds"], calibrate)
    figures = ["false_high_alerts_per_account_year", "detected_7d", "detected_14d", "detected_28d", "detected_56d",
               "fires_on_one_signal_outage", "accounts_firing_on_fleet_drop"]
    table = {}
    for row in rows:
        rule = table.setdefault(row["scenario"], {}).setdefault(row["rule"], {})
        for figure in figures:
            if figure in row:
                rule.setdefault(figure, []).append(row[figure])
    mean = lambda rule: {figure: sum(values) / len(values) for figure, values in rule.items()}
    return {"calibrated_on": calibrate, "scenarios": {name: {rule: mean(of) for rule, of in rules.items()} for name, rules in table.items()}}


def judge_set():
    # anchors.py imports LightGBM for one of its scorers, which is not used here.
    if importlib.util.find_spec("lightgbm") is None:
        sys.modules["lightgbm"] = types.ModuleType("lightgbm")
    import anchors
    import numpy as np
    import pandas as pd
    import referee as R

    cfg = anchors.SETS[request["name"]]
    data = f"{request['kit']}/data/{cfg['stem']}_dev"
    ev, out = R.read_events(f"{data}_events.csv.gz"), R.read_outcomes(f"{data}_outcomes.csv.gz", cfg["kind"])
    horizon, step = cfg["horizon"], cfg["step"]
    lo = int(pd.Timestamp(cfg["cut"], tz="UTC").value // 10**6)
    alerts = {float(budget): urgent(R, pd, path) for budget, path in request["alerts"].items()}
    counts = Counts(R, np, pd, out, horizon, lo)
    counts.check(alerts[float(request["default"])])
    ours = {budget: counts.of(of) for budget, of in alerts.items()}
    risk = {budget: counts.of(of[of["kind"] != SPIKE]) for budget, of in alerts.items()}
    curves = {"Bellwether": [counts.point(of, at) for at, of in ours.items()],
              "Bellwether, risk only": [counts.point(of, at) for at, of in risk.items()]}
    result = {"name": request["name"], "kind": cfg["kind"], "horizon_days": horizon, "step_days": step, "from": cfg["cut"],
              "account_years": counts.years.sum(), "churns": int(counts.churner.sum()), "curves": curves,
              "families": {str(budget): families(counts, of) for budget, of in alerts.items()}}
    if not request.get("scores"):
        return result
    scores = R.read_scores(request["scores"])
    R.check_ids(ev, out, scores)
    snap = R.snapshot_grid(out, horizon, step, lo=lo)
    features = anchors.features(ev, out, snap, cfg)
    groups = [f"z_{group}" for group in cfg["groups"] if f"z_{group}" in features]
    z = {"single z": -features["z_*"].to_numpy(), f"2-of-{len(groups)} z": -np.sort(features[groups].to_numpy(), 1)[:, 1]}
    for rule, by in z.items():
        of = {at: counts.of(z_alerts(R, pd, snap, by, at)) for at in Z_THRESHOLDS}
        of = best(counts, of)
        curves[rule] = [counts.point(one, at) for at, one in of.items()]
        for name, found in (("Bellwether", ours), ("Bellwether, risk only", risk)):
            for point, one in zip(curves[name], found.values()):
                point.setdefault("against", {})[rule] = counts.ratio(one, of)
    ranked = {}
    at = pd.to_datetime(snap["t"], unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    for rule, by in {"recency": (features["recency"] - 1e-6 * features["tot1"]).to_numpy(), "single z": z["single z"]}.items():
        rank = pd.Series(by).rank(pct=True).to_numpy()
        judged = pd.DataFrame({"account_id": snap["account_id"], "at": at, "score": 100 * (1 - rank), "at_ms": snap["t"]})
        ranked[rule] = brief(R.judge(out, judged, None, horizon, step, lo=lo, boot=BOOT))
    full = R.judge(out, scores, None, horizon, step, lo=lo, boot=BOOT)
    cut = int(pd.Timestamp(request["cut"], tz="UTC").value // 10**6)
    return result | {"score": {"Bellwether": brief(full), **ranked}, "look_ahead": R.causal(scores, R.read_scores(request["cut_scores"]), cut)}


def learned():
    import anchors
    import pandas as pd
    import referee as R

    cfg = anchors.SETS[request["name"]]
    data = f"{request['kit']}/data"
    stem = f"{data}/{cfg['stem']}{'' if cfg['stem'] == 'churnsim' else '_dev'}"
    ev, out = R.read_events(f"{stem}_events.csv.gz"), R.read_outcomes(f"{stem}_outcomes.csv.gz", cfg["kind"])
    scores = R.read_scores(request["scores"])
    R.check_ids(ev, out, scores)
    lo = int(pd.Timestamp(cfg["cut"], tz="UTC").value // 10**6)
    ours = R.judge(out, scores, None, cfg["horizon"], cfg["step"], lo=lo, boot=BOOT)
    theirs = anchors.run(request["name"], cfg, data, request["out"], boot=BOOT)
    scorers = {"Bellwether": ours} | theirs
    return {"name": request["name"], "kind": cfg["kind"], "horizon_days": cfg["horizon"], "from": cfg["cut"], "account_years": ours["account_years"],
            "coverage": ours["score_coverage"], **{key: brief(ours)[key] for key in ("base_rate", "snapshots", "accounts", "churns")},
            "scorers": {name: ranked(of) for name, of in scorers.items()}}


def ranked(r):
    at, ci = r["at_recall"], r["ci95"]
    with_ci = lambda name: [at[name], *ci.get(name, [None, None])]
    found = {"auc": [r["auc_roc"], *ci["auc_roc"]], "pr_auc": [r["pr_auc"], *ci["pr_auc"]], "recall": at["recall"],
             "precision": with_ci("precision"), "false": with_ci("false_alerts_per_account_year"), "lead_days": with_ci("median_lead_days")}
    if "calibration" in r:
        found["ece"] = [r["calibration"]["ece"], *ci.get("ece", [None, None])]
    return found


class Counts:
    """What the referee counts of alerts, per row of the outcomes, so that two rules can be compared on the same resampled accounts."""

    def __init__(self, R, np, pd, out, horizon, lo):
        self.R, self.np, self.pd, self.out, self.horizon, self.lo = R, np, pd, out, horizon, lo
        self.hz = horizon * R.DAY
        self.f, u, self.c = np.maximum(out["from_ms"], lo).to_numpy(), out["until_ms"].to_numpy(), out["churn_ms"].to_numpy()
        self.stop = np.where(self.c >= 0, np.minimum(self.c, u - self.hz), u - self.hz)
        self.years = np.maximum(self.stop - self.f, 0) / R.YEAR
        self.churner = (self.c >= 0) & (self.c > self.f) & (self.c <= u)
        self.rows = pd.DataFrame({"account_id": out["account_id"], "i": np.arange(len(out))})
        codes = out["account_id"].astype("category").cat.codes.to_numpy()
        rng, n = np.random.default_rng(0), codes.max() + 1
        # The referee's own draws: its intervals are these.
        self.draws = [np.ones(len(out), int)] + [rng.multinomial(n, np.full(n, 1 / n))[codes] for _ in range(BOOT)]

    def of(self, alerts):
        """Per row: false alerts, true ones, and days from the first alert within the horizon to the end (NaN without)."""
        np = self.np
        both = alerts[["account_id", "at_ms"]].merge(self.rows, on="account_id")
        t, i = both["at_ms"].to_numpy("int64"), both["i"].to_numpy(int)
        c, n = self.c[i], len(self.out)
        known = (t >= self.f[i]) & (t < self.stop[i])
        near = (c >= 0) & (c - t <= self.hz)
        lead = np.full(n, -1.0)
        prior = near & (t >= self.f[i]) & (t < c) & self.churner[i]
        np.maximum.at(lead, i[prior], (c - t)[prior] / self.R.DAY)
        return {"false": np.bincount(i[known & ~near], minlength=n), "true": np.bincount(i[known & near], minlength=n),
                "lead": np.where(lead < 0, np.nan, lead)}

    def rate(self, of, w):
        return (w * of["false"]).sum() / max((w * self.years).sum(), 1e-9)

    def recall(self, of, w):
        return (w * ~self.np.isnan(of["lead"])).sum() / max((w * self.churner).sum(), 1e-9)

    def precision(self, of, w):
        total = (w * (of["true"] + of["false"])).sum()
        return (w * of["true"]).sum() / total if total else float("nan")

    def lead(self, of, w):
        leads = self.np.repeat(of["lead"], w)
        leads = leads[~self.np.isnan(leads)]
        return self.np.median(leads) if len(leads) else float("nan")

    def interval(self, figure):
        """The figure, and 95 % of the resampled ones."""
        value, *resampled = [figure(w) for w in self.draws]
        return [value, *self.R.ci(resampled)]

    def point(self, of, at):
        figures = {"false": self.rate, "recall": self.recall, "precision": self.precision, "lead_days": self.lead}
        point = {name: self.interval(lambda w, figure=figure: figure(of, w)) for name, figure in figures.items()}
        count = int((of["true"] + of["false"]).sum())
        # As many alerts at random times, on accounts at random: a Poisson process finds this share within the horizon.
        random = 1 - float(self.np.exp(-count / max(self.years.sum(), 1e-9) * self.hz / self.R.YEAR))
        return {"at": at, **point, "high_alerts": count, "random_recall": random}

    def ratio(self, of, rule):
        """False alerts over those of the rule where it finds as many: between the two thresholds about the recall, the rate goes in
        a line. None where no threshold finds as many."""
        whole = self.draws[0]
        recall = self.recall(of, whole)
        points = sorted((self.recall(one, whole), self.rate(one, whole), at) for at, one in rule.items())
        above = next((point for point in points if point[0] >= recall), None)
        if above is None or recall == 0:
            return None
        below = max((point for point in points if point[0] < recall), default=(0.0, 0.0, None))
        share = (recall - below[0]) / max(above[0] - below[0], 1e-9)
        lower = (lambda w: self.rate(rule[below[2]], w)) if below[2] is not None else (lambda w: 0.0)
        theirs = lambda w: (1 - share) * lower(w) + share * self.rate(rule[above[2]], w)
        return {"false": self.interval(theirs), "ratio": self.interval(lambda w: self.rate(of, w) / max(theirs(w), 1e-9))}

    def check(self, alerts):
        """That these are the referee's figures."""
        theirs = self.R.judge_alerts(self.out, alerts, self.horizon, self.lo, None, 0, self.np.random.default_rng(0))
        of, w = self.of(alerts), self.draws[0]
        pairs = [(self.rate(of, w), theirs["false_high_alerts_per_account_year"]), (self.recall(of, w), theirs["churns_with_prior_high_alert"]),
                 (self.lead(of, w), theirs["median_lead_days"])]
        if not all(self.np.isclose(a, b, equal_nan=True) for a, b in pairs):
            raise ValueError(f"alerts are counted otherwise than by the referee: {pairs}")


def urgent(R, pd, path):
    """High and critical alerts, with the family of each where it is known (`families.csv` beside them)."""
    import os

    alerts = R.read_alerts(path)
    alerts = alerts[alerts["severity"].isin(R.HIGH)].reset_index(drop=True)
    beside = os.path.join(os.path.dirname(path), "families.csv")
    if not os.path.exists(beside):
        return alerts.assign(family="")
    named = pd.read_csv(beside, dtype=str, keep_default_na=False)
    return alerts.merge(named, on=["account_id", "at", "kind"], how="left").fillna({"family": ""})


def families(counts, alerts):
    """Each kind of alert and family of change by itself."""
    split = alerts.groupby([alerts["kind"], alerts["family"]])
    points = [{"kind": kind, "family": family} | counts.point(counts.of(of), None) for (kind, family), of in split]
    return [point for point in points if point["high_alerts"] > 0]


def best(counts, rule):
    """Thresholds that no other beats: as many found at fewer false alerts."""
    whole = counts.draws[0]
    ranked = sorted((counts.rate(of, whole), -counts.recall(of, whole), at) for at, of in rule.items())
    kept, found = {}, 0.0
    for _, recall, at in ranked:
        if -recall > found:
            kept[at], found = rule[at], -recall
    return kept


def nab():
    import nab_score as N

    root = f"{request['kit']}/data/nab"
    windows = N.load_windows(root)
    ours = N.load_detections(request["detections"], windows, None)
    reference = {name: N.reference_detector(N.series(root, name)[1]) for name in windows}
    # Labels never reach the detector; the threshold is the best one over all series, as the benchmark takes it.
    score = lambda of, profile, at=None: N.score(root, windows, of, profile, at)
    figures = {"Bellwether": {profile: score(ours, profile) for profile in N.PROFILES}, "reference": {profile: score(reference, profile) for profile in N.PROFILES}}
    own = {profile: score(ours, profile, float(request["threshold"])) for profile in N.PROFILES}
    return {"series": len(windows), "windows": figures["Bellwether"]["standard"]["windows"], "best": figures, "own": own}


def brief(r):
    return {"auc": [r["auc_roc"], *r["ci95"]["auc_roc"]], "pr_auc": [r["pr_auc"], *r["ci95"]["pr_auc"]], "base_rate": r["base_rate"],
            "snapshots": r["snapshots"], "accounts": r["accounts"], "churns": r["churns"]}


def z_alerts(R, pd, snap, risk, threshold):
    """As anchors.py: at or above the threshold, then 28 quiet days."""
    hit = snap[risk >= threshold].sort_values(["o", "t"])
    keep, last = [], {}
    for o, t in zip(hit["o"], hit["t"]):
        if t - last.get(o, -(2**62)) >= 28 * R.DAY:
            keep.append((o, t))
            last[o] = t
    names = snap.groupby("o")["account_id"].first()
    rows = pd.DataFrame({"account_id": [names[o] for o, _ in keep], "severity": "high", "signals": "", "at_ms": [t for _, t in keep]})
    return rows.astype({"at_ms": "int64"})


def clean(x):
    """JSON has no NaN and no numpy."""
    if isinstance(x, dict):
        return {str(k): clean(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [clean(v) for v in x]
    x = x.item() if hasattr(x, "item") else x
    return None if isinstance(x, float) and (x != x or abs(x) == float("inf")) else x


try:
    with contextlib.redirect_stdout(sys.stderr):
        result = {"hashes": hashes, "learned": learned, "nab": nab, "reference": reference, "set": judge_set}[request["do"]]()
except Exception as error:  # one line for people, not a traceback
    sys.exit(f"{type(error).__name__}: {error}")
json.dump(clean(result), sys.stdout)
