"""The search of bytes for what is left of texts, compared with an obvious one."""

from hypothesis import given
from hypothesis import strategies as st

from memctl.storage.fragments import (
    LONG_STRIDE,
    LONG_TEXT,
    SHORTEST,
    WORD,
    Fragment,
    Fragments,
    missing_in,
)

letters = st.text("ab", min_size=4, max_size=60).map(str.encode)


@given(texts=st.lists(letters, max_size=4), content=st.text("ab", max_size=200).map(str.encode))
def test_a_part_is_found_if_and_only_if_it_is_long_enough(
    texts: list[bytes], content: bytes
) -> None:
    fragments = Fragments(texts)

    found = fragments.of(content)

    for part in found:
        text = fragments.texts[part.text]
        assert text[part.start : part.end] in content
        assert part.end - part.start >= min(len(text), SHORTEST)
    for number, text in enumerate(fragments.texts):
        least = min(len(text), SHORTEST)
        parts = {text[start : start + least] for start in range(len(text) - least + 1)}
        is_there = any(part in content for part in parts if len(set(part)) > 1)
        assert is_there <= any(part.text == number for part in found)


@given(before=st.binary(max_size=20), key=st.binary(min_size=1, max_size=40))
def test_what_counts_as_a_whole_is_found_at_any_offset(before: bytes, key: bytes) -> None:
    name = b"build_agentlearning" + key

    found = Fragments([], [name])

    assert found.of(before + name + b"after") == {Fragment(0, 0, len(name))}
    assert found.of(before + name[:-1]) - found.of(b"") == (
        set() if name not in before + name[:-1] else {Fragment(0, 0, len(name))}
    )


def test_a_page_of_a_long_text_is_found_at_any_offset() -> None:
    text = b"".join(b"%08d" % number for number in range(LONG_TEXT // 4))
    fragments = Fragments([text])
    size = LONG_STRIDE * WORD + SHORTEST

    found = [
        fragments.of(b"x" * offset + text[start : start + size])
        for offset in range(WORD)
        for start in range(5000, 5000 + LONG_STRIDE)
    ]

    assert all(found)


@given(
    parts=st.sets(st.text("ab", min_size=1, max_size=40).map(str.encode), max_size=6),
    contents=st.lists(st.text("ab", max_size=60).map(str.encode), max_size=4),
    copied=st.integers(0, 5),
    offset=st.integers(0, 9),
)
def test_parts_that_no_content_contains_are_missing(
    parts: set[bytes], contents: list[bytes], copied: int, offset: int
) -> None:
    contents += [b"z" * offset + part for part in sorted(parts)[:copied]]

    missing = missing_in(parts, contents)

    assert missing == {part for part in parts if not any(part in content for content in contents)}
