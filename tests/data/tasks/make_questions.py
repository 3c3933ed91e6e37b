#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a multiple-choice task from GSM8K problems ({"question", "answer"}, a line each, on standard input):
what a problem tells is the context, its last sentence, the question, one of four choices; the others are the questions of
the next three problems. Writes the task to standard output.

usage: make_questions.py [COUNT] < gsm8k.jsonl > questions.jsonl
"""
import json
import re
import sys


def split(problem):
    """The last sentence apart from the rest; None where there is nothing to part or it asks nothing short."""
    ends = list(re.finditer(r"(?<=[.!?])\s+(?=[A-Z$])", problem.strip()))
    if not ends:
        return None
    context, question = problem[: ends[-1].start()].strip(), problem[ends[-1].end() :].strip()
    return (context, question) if question.endswith("?") and len(question) < 140 else None


def main():
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else None
    parts = [p for p in (split(json.loads(line)["question"]) for line in sys.stdin) if p]
    for i, (context, question) in enumerate(parts[:limit]):
        choices = [parts[(i + k) % len(parts)][1] for k in (1, 2, 3)]
        place = (i * 7 + 3) % 4
        choices.insert(place, question)
        print(json.dumps({"context": context, "choices": choices, "answer": place}, ensure_ascii=False))


if __name__ == "__main__":
    main()
