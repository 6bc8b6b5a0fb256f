"""Near-identical texts: the search finds what an exhaustive comparison finds."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.jobs.similarity import Corpus, are_alike, similarity, words_of
from tests.support.properties import examples


@pytest.mark.parametrize(
    ("some", "others", "expected"),
    [
        pytest.param("retry once", "retry once", 1.0, id="equal"),
        pytest.param("Retry, ONCE!", "once retry retry", 1.0, id="the same words"),
        pytest.param("retry once", "pin it", 0.0, id="no word in common"),
        pytest.param("a b c d", "a b c d e", 0.8, id="four fifths"),
        pytest.param("a_b c", "a b c", 0.25, id="an underscore is part of a word"),
        pytest.param("ключ 値", "КЛЮЧ 値", 1.0, id="letters of any script"),
        pytest.param("", "", 0.0, id="two empty texts"),
        pytest.param("!!!", "!!!", 0.0, id="no words in either"),
        pytest.param("half \udcf0\udc9f", "half", 1.0, id="bytes that are not text"),
    ],
)
def test_similarity_is_the_share_of_all_words_that_both_texts_have(
    some: str, others: str, expected: float
) -> None:
    assert similarity(words_of(some), words_of(others)) == expected


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param("a b c d e f g h i", True, id="nine of ten"),
        pytest.param("a b c d e f g h", False, id="exactly four fifths"),
        pytest.param("a b c d e f g h i x", True, id="nine of eleven"),
        pytest.param("a b c d e f g h x", False, id="eight of eleven"),
    ],
)
def test_texts_are_similar_above_four_fifths(others: str, expected: bool) -> None:
    assert are_alike(words_of("a b c d e f g h i j"), words_of(others)) is expected


def nearest(texts: list[tuple[int, str, str]], text: str, agent: str) -> int | None:
    """Return the most similar text of another agent, the oldest of several; by comparing all."""
    best, most = None, 0.8
    for number, owner, other in texts:
        ours, theirs = set(re.findall(r"\w+", text)), set(re.findall(r"\w+", other))
        part = len(ours & theirs) / len(ours | theirs) if ours | theirs else 0
        if owner != agent and part > most:
            best, most = number, part
    return best


AGENTS = st.sampled_from(["a", "b", "c"])
# Words of different lengths, of which nearly all are in each text; and few texts, so that they
# are repeated.
WORDS = ["i", "am", "not", "what", "i_was", "before", "nothing", "1234567890"]
TEXTS = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join),
    st.sampled_from(WORDS).map(lambda left_out: " ".join({*WORDS} - {left_out})),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), AGENTS, TEXTS),
        st.tuples(st.just("ask"), AGENTS, TEXTS),
        st.tuples(st.just("discard"), st.integers(0, 59), st.none()),
    ),
    max_size=60,
)


@examples(5)
@given(steps=STEPS, numbers=st.permutations(range(60)))
def test_the_search_finds_the_same_as_comparing_all_texts(
    steps: list[tuple[str, str | int, str]], numbers: list[int]
) -> None:
    corpus = Corpus()
    texts: list[tuple[int, str, str]] = []

    for (step, who, text), number in zip(steps, numbers, strict=False):
        if step == "add":
            corpus.add(number, str(who), words_of(text))
            texts.append((number, str(who), text))
        elif step == "discard":
            corpus.discard(int(who))
            texts = [known for known in texts if known[0] != who]
        else:
            found = corpus.most_alike(words_of(text), not_of=str(who))
            assert found == nearest(texts, text.lower(), str(who))


def test_the_search_follows_removed_and_added_texts() -> None:
    words = words_of("a b c d e f g h i j")
    corpus = Corpus()
    corpus.add(1, "a", words_of("a b c d e f g h i"))
    corpus.add(2, "a", words)

    first = corpus.most_alike(words, not_of="b")
    corpus.discard(2)
    second = corpus.most_alike(words, not_of="b")
    corpus.add(3, "a", words)
    third = corpus.most_alike(words, not_of="b")

    assert (first, second, third) == (2, 1, 3)
