"""Files of boxes: each format read, looked up by a photo's path, and everything that is wrong with one."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mien.models.errors import BoxesError
from mien.models.faces.face import Face
from mien.transforms.boxes.box_file import BoxFile
from mien.transforms.boxes.formats import BOXES_AN_IMAGE

SIZE = (200, 100)
COCO = {
    "images": [
        {"id": 7, "file_name": "a/x.jpg", "width": 200, "height": 100},
        {"id": 8, "file_name": "b/x.jpg", "width": 300, "height": 100},
        {"id": 9, "file_name": "y.jpg"},
    ],
    "annotations": [
        {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.8},
        {"image_id": 7, "category_id": 2, "bbox": [90.5, 2, 30, 10]},
        {"image_id": 9, "category_id": 1, "bbox": [10, 20, -30, 40]},
    ],
    "categories": [{"id": 1, "name": "Face"}, {"id": 2, "name": "License plate"}],
}
FACE, PLATE = Face((10.0, 20.0, 30.0, 40.0), 0.8), Face((90.5, 2.0, 30.0, 10.0), 1.0, kind="license-plate")


def written(path: Path, content: str | bytes | dict) -> str:
    data = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def of(boxes: BoxFile, name: str, size: tuple[int, int] = SIZE, alone: bool = True) -> list[Face]:
    return boxes.of(name, f"/photos/{name}", size, alone)


def test_coco(tmp_path: Path) -> None:
    boxes = BoxFile.at(written(tmp_path / "b.json", COCO))
    assert boxes.kinds == ("face", "license-plate")
    assert of(boxes, "a/x.jpg") == [FACE, PLATE]
    assert boxes.of("x.jpg", "gs://bucket/deep/a/x.jpg", SIZE, True) == [FACE, PLATE]  # the end of its path
    with pytest.raises(
        BoxesError, match=r"^withheld: the box file has a frame of 300 x 100, and the upright photo has 200"
    ):
        of(boxes, "b/x.jpg")
    with pytest.raises(BoxesError, match=r"^withheld: the box file says of it: a box of -30 x 40"):
        of(boxes, "y.jpg")
    assert of(boxes, "z.jpg", alone=False) == []
    with pytest.raises(BoxesError, match=r"^withheld: the box file says nothing about this photo, and no detector"):
        of(boxes, "z.jpg")
    unmatched = boxes.check_photos([("a/x.jpg", "/photos/a/x.jpg"), ("z.jpg", "/photos/z.jpg")])
    assert unmatched.names == ("b/x.jpg", "y.jpg")
    with pytest.raises(BoxesError, match=r"y\.jpg: 2 photos have this name: their paths are needed"):
        boxes.check_photos([("c/y.jpg", "/photos/c/y.jpg"), ("d/y.jpg", "/photos/d/y.jpg")])


def test_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    text = "image,x,y,w,h,kind,score,frame_width,frame_height\n"
    text += "a/x.jpg,10,20,30,40,,0.8,200,100\na/x.jpg,90.5,2,30,10,License plate,,200,100\nz.jpg,,,,,,,,\n"
    table = BoxFile.at(written(tmp_path / "b.csv", text))
    rows = [
        {"file_name": "a/x.jpg", "x": 10.0, "y": 20.0, "w": 30.0, "h": 40.0, "kind": None, "score": 0.8},
        {"file_name": "a/x.jpg", "x": 90.5, "y": 2.0, "w": 30.0, "h": 10.0, "kind": "License plate", "score": None},
        {"file_name": "z.jpg", "x": None, "y": None, "w": None, "h": None, "kind": None, "score": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    for boxes in (table, BoxFile.at(str(tmp_path / "b.parquet"))):
        assert of(boxes, "a/x.jpg") == [FACE, PLATE]
        assert of(boxes, "z.jpg") == []  # said to have none
        with pytest.raises(BoxesError, match="says nothing"):
            of(boxes, "y.jpg")


def test_a_folder_of_yolo_labels(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    written(tmp_path / "classes.txt", "face\nPlate\n")
    written(tmp_path / "a" / "x.txt", "0 0.125 0.4 0.15 0.4 0.8\n1 0.5 0.5 0.1 0.2\n")
    written(tmp_path / "none.txt", "")
    written(tmp_path / "bad.txt", "0 0.5 0.5 0.1\n")
    boxes = BoxFile.at(str(tmp_path))
    first, second = of(boxes, "a/x.jpg")
    assert first.box == pytest.approx(FACE.box)
    assert (first.score, second.kind, of(boxes, "none.png")) == (0.8, "plate", [])
    with pytest.raises(BoxesError, match="line 1 is no class, box and score"):
        of(boxes, "bad.jpg")


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#">
<mwg-rs:Regions rdf:parseType="Resource">
 <mwg-rs:AppliedToDimensions stDim:w="200" stDim:h="100" stDim:unit="pixel"/>
 <mwg-rs:RegionList><rdf:Bag>
  <rdf:li><rdf:Description mwg-rs:Name="SOMEBODY" mwg-rs:Type="Face">
   <mwg-rs:Area stArea:x="0.125" stArea:y="0.4" stArea:w="0.15" stArea:h="0.4" stArea:unit="normalized"/>
  </rdf:Description></rdf:li>
  <rdf:li rdf:parseType="Resource"><mwg-rs:Type>Pet</mwg-rs:Type><mwg-rs:Area rdf:parseType="Resource">
   <stArea:x>0.5</stArea:x><stArea:y>0.5</stArea:y><stArea:w>0.1</stArea:w><stArea:h>0.2</stArea:h></mwg-rs:Area></rdf:li>
  <rdf:li><rdf:Description mwg-rs:Type="Focus"><mwg-rs:Area stArea:x="0.5" stArea:y="0.5" stArea:d="0"/>
  </rdf:Description></rdf:li>
 </rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions></rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_sidecars_with_regions(tmp_path: Path) -> None:
    written(tmp_path / "x.jpg.xmp", XMP)
    written(tmp_path / "y.xmp", XMP)
    written(tmp_path / "bad.jpg.xmp", "<x>")
    written(tmp_path / "evil.jpg.xmp", '<!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>')
    boxes = BoxFile.at(str(tmp_path))
    assert boxes.kinds == ("face", "pet")
    for name in ("x.jpg", "y.png"):
        face, pet = of(boxes, name)
        assert face.box == pytest.approx(FACE.box)
        assert (face.kind, pet.kind) == ("face", "pet")
    assert "SOMEBODY" not in repr(boxes) + repr(of(boxes, "x.jpg"))
    with pytest.raises(BoxesError, match=r"a frame of 200 x 100, and the upright photo has 100 x 200"):
        of(boxes, "x.jpg", (100, 200))
    with pytest.raises(BoxesError, match="no XML"):
        of(boxes, "bad.jpg")
    with pytest.raises(BoxesError, match="a document type"):
        of(boxes, "evil.jpg")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("10,20,0,40", "a box of 0 x 40"),
        ("10,20,nan,40", "a box that is not finite"),
        ("10,20,x,40", "a box that is not four numbers"),
        ("10,20,,40", "a box that is not four numbers"),
        ("200,20,5,40", "a box outside the frame of 200 x 100: 5 x 40 at 200, 20"),
    ],
)
def test_a_bad_box_keeps_its_photo_back(tmp_path: Path, row: str, message: str) -> None:
    boxes = BoxFile.at(written(tmp_path / "b.csv", f"image,x,y,w,h\nx.jpg,1,2,3,4\nx.jpg,{row}\ny.jpg,1,2,3,4\n"))
    assert len(of(boxes, "y.jpg")) == 1
    for alone in (True, False):
        with pytest.raises(BoxesError, match=message):
            of(boxes, "x.jpg", alone=alone)


def test_too_many_boxes(tmp_path: Path) -> None:
    text = "image,x,y,w,h\n" + "x.jpg,1,2,3,4\n" * (BOXES_AN_IMAGE + 1)
    with pytest.raises(BoxesError, match=f"over {BOXES_AN_IMAGE} boxes"):
        of(BoxFile.at(written(tmp_path / "b.csv", text)), "x.jpg")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.json", "{", "no JSON"),
        ("b.json", "[1]", "no COCO file: a mapping"),
        ("b.json", {**COCO, "images": [{"id": 1}]}, "annotation 1 is of the image 7, which is not there"),
        ("b.json", {"images": [{"id": 1}]}, "no COCO file: KeyError"),
        ("b.json", {**COCO, "categories": [{"id": 1, "name": "face"}]}, "annotation 2 is of the category 2"),
        ("b.json", {**COCO, "categories": [{"id": 1, "name": "\u9762"}]}, "'\u9762' is no name of a kind"),
        ("b.json", {"images": [{"id": 1, "file_name": "x"}, {"id": 2, "file_name": "x"}]}, "x: twice among the images"),
        ("b.csv", "image,x,y\nx.jpg,1,2\n", "line 2: the columns image, x, y, w, h"),
        ("b.csv", "image,x,y,w,h\n,1,2,3,4\n", "line 2: the columns"),
        ("b.csv", b"image,x\xff", "the boxes cannot be read: 'utf-8' codec"),
        ("b.parquet", b"PAR1 and no more", "the boxes cannot be read"),
        ("b.docx", "x", "no COCO JSON, CSV or Parquet file, and no folder"),
        ("nosuch.csv", None, "the boxes cannot be read: No such file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str | bytes | dict | None, message: str) -> None:
    path = str(tmp_path / name) if content is None else written(tmp_path / name, content)
    with pytest.raises(BoxesError) as caught:
        BoxFile.at(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(BoxesError, match=r"neither \.txt files"):
        BoxFile.at(str(tmp_path))
    written(tmp_path / "x.txt", "")
    written(tmp_path / "x.xmp", "")
    with pytest.raises(BoxesError, match=r"both \.txt and \.xmp"):
        BoxFile.at(str(tmp_path))


def test_boxes_that_change_while_a_job_runs(tmp_path: Path) -> None:
    boxes = BoxFile.at(written(tmp_path / "b.csv", "image,x,y,w,h\nx.jpg,1,2,3,4\n"))
    written(tmp_path / "b.csv", "image,x,y,w,h\n")
    with pytest.raises(BoxesError, match="changed while the job ran"):
        of(boxes, "x.jpg")
