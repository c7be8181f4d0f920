import pytest

from spin.report.markdown import bullets, code, escape, folded, section, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SPIN 1", "SPIN 1"),
        ("a|b", r"a\|b"),
        ("*bold* _lean_ `code`", r"\*bold\* \_lean\_ \`code\`"),
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("[x](http://evil)", r"[x\](http://evil)"),
        ("+0.80 [0.49, 1.14]", "+0.80 [0.49, 1.14]"),
        ("one\n\n# two", "one # two"),
        ("back\\slash & ~so~", r"back\\slash \& \~so\~"),
    ],
)
def test_a_name_stays_what_it_is(text, shown):
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("runs/a|b", "`runs/a|b`"),
        ("a`b", "``a`b``"),
        ("``", "``` `` ```"),
        ("two\nlines", "`two lines`"),
    ],
)
def test_code_is_fenced_by_more_backticks_than_it_holds(text, shown):
    assert code(text) == shown


def test_a_table_has_a_rule_as_wide_as_its_header():
    assert table(["model", "a", "b"], [["x", "1", "2"]]).splitlines() == [
        "| model | a | b |",
        "| :--- | ---: | ---: |",
        "| x | 1 | 2 |",
    ]


def test_a_section_without_content_is_left_out():
    assert section("Gate", "", "") == ""
    assert section("Gate", "", bullets(["one", "two"])) == "## Gate\n\n- one\n- two"


def test_what_is_folded_has_a_title_without_markup() -> None:
    assert folded("a < b", "| x |") == "<details><summary>a &lt; b</summary>\n\n| x |\n\n</details>"
