"""Labeling configs: what is read from them, and which control answers."""

import pytest

from samlet.errors import UserError
from samlet_labelstudio.label_studio.labeling_config import Control, parse

CONFIG = """
<View>
  <Header value="Click on nuclei"/>
  <Image name="img" value="$picture" zoom="true"/>
  <View>
    <KeyPointLabels name="click" toName="img" smart="true">
      <Label value="Nucleus" alias="nucleus" background="#f00"/>
      <View><Label value="debris"/></View>
    </KeyPointLabels>
  </View>
  <RectangleLabels name="box" toName="img" smartOnly="true"><Label value="debris"/>
  </RectangleLabels>
  <PolygonLabels name="outline" toName="img"><Label value="nucleus"/></PolygonLabels>
  <Choices name="quality" toName="img"><Choice value="good"/></Choices>
  <Brush name="bare" toName="img"/>
  <Text name="text" value="$text"/>
  <RectangleLabels name="elsewhere" toName="text"><Label value="debris"/></RectangleLabels>
</View>
"""


def config_of(*controls: str, images: tuple[str, ...] = ("img",)) -> str:
    """A config of controls, each "tag name", with "!" if smart, and labels after it."""
    tags = [f'<Image name="{image}" value="${image}"/>' for image in images]
    for i, control in enumerate(controls):
        tag, *labels = control.split()
        smart = ' smart="true"' if tag.endswith("!") else ""
        inner = "".join(f'<Label value="{label}"/>' for label in labels)
        tag = tag.removesuffix("!") + "Labels"
        tags.append(f'<{tag} name="c{i}" toName="img"{smart}>{inner}</{tag}>')
    return f"<View>{''.join(tags)}</View>"


def test_controls_and_images() -> None:
    config = parse(CONFIG)
    assert config.images == {"img": "picture"}
    assert config.controls == (
        Control("click", "KeyPointLabels", "img", ("nucleus", "debris"), True),
        Control("box", "RectangleLabels", "img", ("debris",), True),
        Control("outline", "PolygonLabels", "img", ("nucleus",), False),
    )


def test_control_of_several_images() -> None:
    text = config_of("Brush a", images=("img", "other")).replace('"img">', '"img, other">')
    config = parse(text)
    assert config.images == {"img": "img", "other": "other"}
    assert [control.image for control in config.controls] == ["img", "other"]
    other = config.result_control("other", "a")
    assert other is not None and other.image == "other"


@pytest.mark.parametrize(
    ("controls", "label", "chosen"),
    [
        (["KeyPoint! a", "Polygon a", "Brush a"], "a", "c1"),
        (["Brush! a", "Rectangle a", "Brush a"], "a", "c1"),
        (["Rectangle! a", "Ellipse! a", "Polygon! a", "Brush! a"], "a", "c3"),
        (["Rectangle! a", "Ellipse! a", "Polygon! a"], "a", "c2"),
        (["Rectangle! a", "Ellipse! a"], "a", "c1"),
        (["Rectangle! a", "KeyPoint! a"], "a", "c0"),
        (["Polygon b", "Brush a b"], "a", "c1"),
        (["Polygon b", "Brush! a"], "a", "c1"),
        (["Brush", "Polygon b"], None, "c1"),
        (["Brush! a", "Brush! b"], None, "c0"),
        (["KeyPoint! a"], "a", None),
        (["Brush a"], "b", None),
        (["Brush"], None, None),
    ],
)
def test_which_control_answers(controls: list[str], label: str | None, chosen: str | None) -> None:
    config = parse(config_of(*controls))
    control = config.result_control("img", label)
    assert (control and control.name) == chosen
    assert config.result_control("other", label) is None


BOMB = "<!DOCTYPE a [<!ENTITY x 'aaaa'><!ENTITY y '&x;&x;&x;&x;'>]><View>&y;</View>"
FILE = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><View>&x;</View>"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<View>", r"not valid XML .*: correct it in Label Studio's settings"),
        ("", "not valid XML"),
        ("<View>\ud800</View>", "not valid XML"),
        ("<View>&x;</View>", "not valid XML"),
        (BOMB, "without a document type: copy it"),
        (FILE, "without a document type: copy it"),
        (None, "must be XML"),
        (b"<View/>", "must be XML"),
        ("<View><Text name='t' value='$t'/></View>", "has no image: add a tag such as <Image"),
        ("<View><Image name='t' value='t.png'/></View>", "has no image"),
        ("<View><Image value='$t'/></View>", "has no image"),
    ],
)
def test_bad_configs(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (config_of("KeyPoint! a"), "nothing to draw masks with: add BrushLabels, BitmaskLabels,"),
        (config_of("KeyPoint! a", "Brush"), "nothing to draw masks with"),
        (
            config_of("KeyPoint! a b", "Brush c"),
            "smart tool 'c0' (a, b) are not those of any Brush",
        ),
        (
            '<View><Image name="img" value="$image"/><KeyPoint name="k" toName="img" smart="true"/>'
            '<Brush name="b" toName="img"/></View>',
            "The tag KeyPoint ('k') has no labels: use KeyPointLabels, with a Label tag for each "
            'label in it, or add <Labels name="labels" toName="img">.',
        ),
        (
            config_of("KeyPoint! a", "Vector a"),
            "VectorLabels ('c1') draws lines, not outlines: add closable=\"true\"",
        ),
    ],
)
def test_configs_in_which_no_click_can_be_answered(text: str, sentence: str) -> None:
    useless = parse(text).why_useless()
    assert useless is not None and sentence in useless and useless.endswith(".")


@pytest.mark.parametrize(
    "controls",
    [
        ["KeyPoint! a b", "Brush b"],
        ["Brush a"],
        ["Rectangle! a"],
        ["KeyPoint! a", "KeyPoint! b", "Polygon b"],
        ["KeyPoint! a", "Bitmask a"],
    ],
)
def test_configs_in_which_something_can_be_done(controls: list[str]) -> None:
    assert parse(config_of(*controls)).why_useless() is None


BARE = (
    '<View><Image name="img" value="$image"/><Image name="other" value="$other"/>'
    '<Labels name="kind" toName="img"><Label value="a"/><Label value="b"/></Labels>'
    '<Labels name="more" toName="img" value="$labels"><Label value="c"/></Labels>'
    '<KeyPoint name="k" toName="img" smart="true"/><Brush name="m" toName="img"/></View>'
)


def test_labels_of_a_tag_of_their_own() -> None:
    config = parse(BARE)
    assert config.why_useless() is None and config.unsupported == {}
    assert config.controls == (
        Control("k", "KeyPoint", "img", ("a", "b"), True, "kind"),
        Control("k", "KeyPoint", "img", ("c",), True, "more", "labels"),
        Control("m", "Brush", "img", ("a", "b"), False, "kind"),
        Control("m", "Brush", "img", ("c",), False, "more", "labels"),
    )
    of_task = config.for_task({"data": {"labels": [{"value": "d", "alias": "dd"}, {"value": "e"}]}})
    for label, source in (("b", "kind"), ("c", "more"), ("dd", "more"), ("e", "more")):
        control = of_task.result_control("img", label)
        assert control is not None and (control.name, control.labels_tag) == ("m", source)
    assert of_task.result_control("img", "d") is None
    # Without labels of its own, a task has those of the config.
    assert parse(BARE).for_task({"data": {}}).controls[3].labels == ("c",)


@pytest.mark.parametrize("data", [None, {}, {"labels": "a"}, {"labels": [3, {"value": ""}]}])
def test_labels_that_a_task_lacks(data: object) -> None:
    text = config_of("KeyPoint! a", "Brush").replace('name="c1"', 'name="c1" value="$labels"')
    config = parse(text)
    assert config.why_useless() is None
    of_task = config.for_task({"data": data})
    assert of_task.result_control("img", "a") is None
    assert (
        "no labels in its data under \"labels\", where BrushLabels ('c1') takes"
        in (of_task.unsupported["c1"])
    )


def test_only_closable_vectors_are_outlines() -> None:
    text = config_of("KeyPoint! a", "Vector a", "Ellipse a")
    closable = text.replace('name="c1"', 'name="c1" closable="true"')
    for config, chosen in (
        (text, "c2"),
        (closable, "c1"),
        (closable.replace("closable", 'skeleton="true" closable'), "c2"),
    ):
        control = parse(config).result_control("img", "a")
        assert control is not None and control.name == chosen


def test_pages() -> None:
    config = parse(config_of("Brush a").replace('value="$img"', 'valueList="$pages"'))
    assert config.images == {"img": "pages"} and config.paged == {"img"}
