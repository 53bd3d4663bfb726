"""Judges one set for `bellwether evaluate`, with the referee and the rules of the evaluation kit.

Reads one JSON object from standard input and writes one to standard output:
  {"do": "hashes", "files": [...]}                      -> {file: sha256}
  {"do": "reference", "seeds": [...]}                   -> the kit's reference rules on these synthetic fleets
  {"do": "set", "name": "oulad-silence", "scores": F, "cut_scores": F, "cut": DATE, "alerts": {budget: F}, "default": budget}
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
Z_THRESHOLDS = [x / 4 for x in range(-2, 33)]


def hashes():
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
    scores = R.read_scores(request["scores"])
    R.check_ids(ev, out, scores)
    cut = int(pd.Timestamp(request["cut"], tz="UTC").value // 10**6)

    def point(alerts, at):
        r = R.judge_alerts(out, alerts, horizon, lo, None, BOOT, np.random.default_rng(0))
        figure = lambda name: [r[name], *r["ci95"][name]]
        return {"at": at, "false": figure("false_high_alerts_per_account_year"), "recall": figure("churns_with_prior_high_alert"),
                "precision": figure("high_alert_precision"), "lead_days": r["median_lead_days"], "high_alerts": r["high_alerts_judged"],
                "account_years": r["account_years"], "churns": r["churns"]}

    ours = {float(budget): R.read_alerts(path) for budget, path in request["alerts"].items()}
    curves = {"Bellwether": [point(alerts, budget) for budget, alerts in ours.items()],
              "Bellwether, risk only": [point(alerts[alerts["kind"] != SPIKE], budget) for budget, alerts in ours.items()]}
    snap = R.snapshot_grid(out, horizon, step, lo=lo)
    features = anchors.features(ev, out, snap, cfg)
    groups = [f"z_{group}" for group in cfg["groups"] if f"z_{group}" in features]
    z = {"single z": -features["z_*"].to_numpy(), f"2-of-{len(groups)} z": -np.sort(features[groups].to_numpy(), 1)[:, 1]}
    for rule, risk in z.items():
        curves[rule] = [point(z_alerts(R, pd, snap, risk, threshold), threshold) for threshold in Z_THRESHOLDS]
        # Thresholds that no snapshot reaches say nothing, and those above say the same.
        curves[rule] = [p for p in curves[rule] if p["high_alerts"] > 0]
    ranked = {}
    at = pd.to_datetime(snap["t"], unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    for rule, risk in {"recency": (features["recency"] - 1e-6 * features["tot1"]).to_numpy(), "single z": z["single z"]}.items():
        rank = pd.Series(risk).rank(pct=True).to_numpy()
        judged = pd.DataFrame({"account_id": snap["account_id"], "at": at, "score": 100 * (1 - rank), "at_ms": snap["t"]})
        ranked[rule] = brief(R.judge(out, judged, None, horizon, step, lo=lo, boot=BOOT))
    alerts = R.read_alerts(request["alerts"][request["default"]])
    full = R.judge(out, scores, alerts, horizon, step, lo=lo, boot=BOOT)
    return {"name": request["name"], "kind": cfg["kind"], "horizon_days": horizon, "step_days": step, "from": cfg["cut"],
            "score": {"Bellwether": brief(full), **ranked}, "referee": full, "curves": curves,
            "look_ahead": R.causal(scores, R.read_scores(request["cut_scores"]), cut)}


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
        result = {"hashes": hashes, "reference": reference, "set": judge_set}[request["do"]]()
except Exception as error:  # one line for people, not a traceback
    sys.exit(f"{type(error).__name__}: {error}")
json.dump(clean(result), sys.stdout)
