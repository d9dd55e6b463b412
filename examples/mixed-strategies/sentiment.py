"""The strategy `sentiment` of the example `financial-analysis`, as a worker in Python: counts the words of a company's letters.

    python3 examples/mixed-strategies/sentiment.py http://127.0.0.1:8001
"""

import json
import pathlib
import re
import sys

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent.parent / "guest-sdk" / "python"))

from command_tower_worker import Fatal, Worker  # noqa: E402

GOOD = {"record", "growth", "grew", "strong", "profitable", "improved", "increase", "increased", "reduction", "best", "progress", "successful", "highest"}
BAD = {"decline", "declined", "decrease", "decreased", "loss", "losses", "risk", "risks", "pressure", "lower", "challenging", "uncertain", "delay", "headwinds"}
TEXTS = here.parent / "financial-analysis" / "data" / "tesla-2024-texts.json"


def strategy(task):
    company, year = task.params.get("company", ""), task.params.get("fiscal_year")
    if company.lower() not in ("tesla", "tsla") or year != 2024:
        raise Fatal("NO_DATA", f"the example ships with texts of Tesla in 2024, not of {company} in {year}")
    if task.params.get("fail") is True:
        raise Fatal("AS_TOLD", "the params say that this strategy shall fail")
    texts = json.loads(TEXTS.read_text(encoding="utf-8"))
    good = bad = 0
    passages = list(passages_of(texts))
    for number, passage in enumerate(passages, 1):
        task.check_cancel()
        words = re.findall(r"[a-z]+", passage.lower())
        good, bad = good + sum(word in GOOD for word in words), bad + sum(word in BAD for word in words)
        task.progress(100 * number // len(passages), f"passage {number} of {len(passages)}")
    task.log(f"{good} good words and {bad} bad ones in {len(passages)} passages")
    score = 0.5 if good + bad == 0 else good / (good + bad)
    text = f"{good} good words and {bad} bad ones in what the company said"
    return {"strategy": "sentiment", "score": round(score, 3), "reasons": [{"what": "words", "score": round(score, 3), "weight": 1.0, "text": text}]}


def passages_of(node):
    """Every text in the file that is longer than a title."""
    if isinstance(node, str):
        if len(node) > 40:
            yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from passages_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from passages_of(value)


if __name__ == "__main__":
    tower = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8001"
    print(f"working on worker://sentiment of {tower}; Ctrl-C ends it", flush=True)
    Worker(tower, "sentiment", name="sentiment.py").run(strategy)
