"""Joints of people: heat maps decode to where they were drawn, scores agree with pycocotools, the
generated and the real set are read."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mimic.config import PeopleSet
from mimic.errors import BadInput
from mimic.models.heads import JointHead
from mimic.models.heatmaps import apply, crop_from_image, decode, encode
from mimic.synthetic import toy_datasets
from mimic.synthetic.toy_datasets.coco import DETECTIONS, NAMES
from mimic.tasks import run_task
from mimic.tasks.checks import check
from mimic.tasks.keypoints import crops, finetune
from mimic.tasks.keypoints.coco import FLIPPED, PERSON, Coco, Person
from mimic.tasks.keypoints.config import PoseTask
from mimic.tasks.metrics.oks import SIGMAS, score, similarity, suppress
from tests.support.miniatures import as_subject, folders_in, make_encoder

NAN = float("nan")
SET = PeopleSet(first_seed=1, train=8, test=5, people=2, width_px=96, height_px=72)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people") / "coco"
    folder.mkdir()
    toy_datasets.write(SET, folder)
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A workspace with a copy to break."""
    shutil.copytree(made, tmp_path / "coco")
    return tmp_path


def official(real_data: Path, root: Path) -> Path:
    """The four real images in the official folders; both splits are the same."""
    folder = root / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        shutil.copytree(
            real_data / "coco", folder / f"{split}2017", ignore=shutil.ignore_patterns("*.json")
        )
        shutil.copy(
            real_data / "coco/test_coco.json",
            folder / f"annotations/person_keypoints_{split}2017.json",
        )
    shutil.copy(real_data / "coco/test_coco_det_AP_H_56.json", folder / "boxes.json")
    return folder


# ---------------------------------------------------------------------------- heat maps


def test_heat_maps_decode_to_a_ten_thousandth_of_a_pixel() -> None:
    """Spec 9: Gaussians of deviation 2, whole or cut to 13 x 13, at random sub-pixel centres."""
    rng = np.random.default_rng(0)
    joints = rng.uniform([12, 12], [35, 51], (200, 2))
    cut, weights = encode(joints, np.ones(200, bool), (64, 48))
    ys, xs = np.mgrid[:64, :48]
    whole = np.exp(
        -((xs - joints[:, 0, None, None]) ** 2 + (ys - joints[:, 1, None, None]) ** 2) / 8
    ).astype(np.float32)
    assert weights.min() == 1
    assert (cut > 0).sum(axis=(1, 2)).max() == 169
    for maps in (whole, cut):
        found, peaks = decode(maps)
        assert np.abs(found - joints).max() < 1e-4
        assert (peaks > 0.8).all()


def test_what_is_outside_or_hidden_has_no_target() -> None:
    joints = np.array([[5.0, 5.0], [-20.0, 5.0], [5.0, 80.0], [5.0, 5.0]])
    maps, weights = encode(joints, np.array([True, True, True, False]), (64, 48))
    assert weights.tolist() == [1, 0, 0, 0]
    assert maps[1:].max() == 0
    found, peaks = decode(maps)
    assert np.isfinite(found).all()
    assert peaks[1:].max() == 0


def test_the_crop_keeps_pixel_centres() -> None:
    affine = crop_from_image(np.array([50.0, 40.0]), np.array([30.0, 40.0]), 0.0, (256, 192))
    np.testing.assert_allclose(
        apply(affine, np.array([[35.0, 20.0], [65.0, 60.0]])), [[0, 0], [191, 255]], atol=1e-9
    )
    turned = crop_from_image(np.array([50.0, 40.0]), np.array([30.0, 40.0]), 90.0, (256, 192))
    np.testing.assert_allclose(apply(turned, np.array([[50.0, 40.0]])), [[95.5, 127.5]], atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turned[:, :2]), np.linalg.det(affine[:, :2]))


# ---------------------------------------------------------------------------- scores


def people_of(found: Coco) -> list[dict[str, Any]]:
    triples = [
        (person, np.column_stack([person.joints, person.visible])) for person in found.people
    ]
    return [
        {
            "image_id": one.image,
            "category_id": 1,
            "keypoints": joints.ravel().tolist(),
            "score": 1.0,
        }
        for one, joints in triples
    ]


def test_perfect_joints_score_one(made: Path) -> None:
    coco = Coco(made, "val")
    metrics = score(coco.annotations, people_of(coco), PERSON)
    assert metrics["AP"] == metrics["AR"] == 1.0
    assert score(coco.annotations, [], PERSON)["AP"] == 0


@pytest.mark.parametrize("first", [0, 1, "every", "text"])
def test_ids_of_people_change_no_score(root: Path, first: Any) -> None:
    """pycocotools takes the id 0 for nobody, and equal ids for one person."""
    path = root / "coco/annotations/person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    for number, entry in enumerate(content["annotations"]):
        entry["id"] = {"every": 7, "text": f"p{number}"}.get(first, number + 1)
        if first == 0:
            entry["id"] = number
        if first == "text":
            entry["image_id"] = str(entry["image_id"])
    if first == "text":
        for image in content["images"][::2]:
            image["id"] = str(image["id"])
    path.write_text(json.dumps(content))
    coco = Coco(root / "coco", "val")
    coco.require_areas()
    metrics = score(coco.annotations, people_of(coco), PERSON)
    assert metrics["AP"] == metrics["AR"] == 1.0


def test_crowds_and_other_categories_are_nobody(root: Path) -> None:
    """A crowd's outline is in run lengths, without joints; some sets number a background as 0."""
    path = root / "coco/annotations/person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    people = len(Coco(root / "coco", "val").people)
    first = content["annotations"][0]
    outline = {"counts": [0, 10, 6902], "size": [72, 96]}
    crowd = {"iscrowd": 1, "num_keypoints": 0, "keypoints": [0] * 51, "segmentation": outline}
    content["annotations"] += [
        first | crowd | {"id": 10**6},
        first | {"id": 10**6 + 1, "category_id": 0},
    ]
    content["categories"].append({"id": 0, "name": "background"})
    content.pop("info", None)
    content.pop("licenses", None)
    path.write_text(json.dumps(content))
    coco = Coco(root / "coco", "val")
    assert len(coco.people) == people
    coco.require_areas()
    metrics = score(coco.annotations, people_of(coco), PERSON)
    assert metrics["AP"] == metrics["AR"] == 1.0


def test_a_set_whose_people_are_category_0_is_one_line(root: Path, pose_task: PoseTask) -> None:
    for split in ("train", "val"):
        path = root / f"coco/annotations/person_keypoints_{split}2017.json"
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            entry["category_id"] = 0
        content["categories"] = [{"id": 0, "name": "person"}]
        path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="train2017.json: the train split holds no people") as error:
        check(pose_task, root)
    assert "\n" not in str(error.value)


def test_only_people_of_a_size_have_a_score_and_only_people_count(made: Path) -> None:
    """Without large people their score is none; animals with joints change no score."""
    coco = Coco(made, "val")
    people = [{**one, "area": min(one["area"], 50.0**2)} for one in coco.annotations["annotations"]]
    animals = [
        {**one, "id": 10**6 + number, "category_id": 18} for number, one in enumerate(people)
    ]
    found = {
        **coco.annotations,
        "annotations": [*people, *animals],
        "categories": [*coco.annotations["categories"], {"id": 18, "name": "dog"}],
    }
    metrics = score(found, people_of(coco), PERSON)
    assert metrics["AP"] == 1.0
    assert metrics["AP_large"] is None
    assert metrics["AR_large"] is None
    nobody = score(found, [], PERSON)
    assert nobody["AP"] == 0
    assert nobody["AP_large"] is None
    assert (nobody["AP_medium"] is None) == (metrics["AP_medium"] is None)


def test_similarity_is_analytic_and_pycocotools_agrees(made: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng, coco = np.random.default_rng(0), Coco(made, "val")
    area, truth = 900.0, rng.uniform(0, 90, (17, 2))
    moved = truth + np.column_stack(
        [2 * SIGMAS * np.sqrt(area), np.zeros(17)]
    )  # one deviation each
    assert similarity(moved, truth, np.ones(17, bool), area) == pytest.approx(np.exp(-0.5))
    found = people_of(coco)
    for entry in found:
        entry["keypoints"] = (np.array(entry["keypoints"]) + rng.normal(0, 2, 51)).tolist()
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(coco.path))
        evaluation = COCOeval(official, official.loadRes(copy.deepcopy(found)), "keypoints")
        evaluation.evaluate()
    image = coco.people[0].image
    entry = next(
        one
        for one in coco.annotations["annotations"]
        if one["image_id"] == image and not one["iscrowd"]
    )
    mine = similarity(
        np.reshape(found[0]["keypoints"], (17, 3))[:, :2],
        coco.people[0].joints,
        coco.people[0].visible,
        entry["area"],
    )
    assert np.isclose(np.asarray(evaluation.ious[image, 1]), mine).any()


def test_doubles_are_dropped() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.uniform(0, 50, (17, 2)), rng.uniform(200, 250, (17, 2))
    joints = np.stack([one + 0.1, one, other])
    kept = suppress(joints, np.array([0.5, 0.9, 0.2]), np.full(3, 2500.0), 0.9)
    assert kept.tolist() == [1, 2]


def test_a_double_is_as_large_as_its_crop() -> None:
    """A thin box is widened before its area counts: 8 x 80 at 3 : 4 is 60 x 80, a quarter
    longer."""
    person = Person(0, np.array([10.0, 5.0, 8.0, 80.0]), np.zeros((17, 2)), np.ones(17, bool), 1.0)
    assert crops.cut_sides(person, 0.75).tolist() == [75.0, 100.0]
    moved = np.full((17, 2), 6.0)
    first = finetune.DetectedPose(person, moved, np.ones(17), 0.9)
    second = finetune.DetectedPose(person, moved + [1.5, 0], np.ones(17), 0.8)

    def alike(area: float) -> float:
        of_pairs = [0.25, 0.35, 0.79, 0.72, 0.62, 1.07, 0.87, 0.89]
        sigmas = np.array([0.26, *np.repeat(of_pairs, 2)]) / 10  # COCO's
        return float(np.mean(np.exp(-(1.5**2) / (2 * area * (2 * sigmas) ** 2))))

    assert alike(8 * 80 * 1.25**2) < 0.9 < alike(75 * 100)
    assert finetune._without_doubles([first, second], 0.75) == [0]


def test_half_a_body_lies_around_the_mean_of_its_joints() -> None:
    """All joints but one at the left: the mean is near them, the middle of their box is not."""
    joints = np.zeros((17, 2))
    joints[:11] = np.column_stack([np.r_[np.full(10, 100.0), 200.0], np.linspace(50, 150, 11)])
    visible = np.arange(17) < 11
    seen = crops.PersonCrop(
        np.zeros((300, 300, 3), np.uint8), np.zeros(2), np.ones(2), joints, visible
    )
    drawn = [crops.half_body(seen, 0.75, np.random.default_rng(seed)) for seed in range(40)]
    cut = [half for half in drawn if half is not seen]
    assert 4 <= len(cut) <= 22
    for half in cut:
        np.testing.assert_allclose(half.centre, [(10 * 100 + 200) / 11, 100])
        np.testing.assert_allclose(half.box, [150, 200])  # 100 x 100 at 3 : 4


# ---------------------------------------------------------------------------- the task


def test_the_head_is_the_published_one() -> None:
    head = JointHead(768, 256, 17, 16, 4)
    deconvolutions = 768 * 256 * 16 + 256 * 256 * 16
    assert (
        sum(p.numel() for p in head.parameters())
        == 2 * 768 + deconvolutions + 4 * 256 + 256 * 17 + 17
    )
    assert head([torch.zeros(1, 768, 16, 12)]).shape == (1, 17, 64, 48)


def test_learning_rate(pose_task: PoseTask) -> None:
    task = pose_task.model_copy(
        update={"steps": 1000, "warmup": 0.01, "lr": 5e-4, "drop_at": (0.8, 0.9)}
    )
    rates = [finetune.learning_rate(step, task) for step in (0, 5, 10, 799, 800, 900)]
    np.testing.assert_allclose(rates, [5e-7, 5e-4 * 0.5005, 5e-4, 5e-4, 5e-5, 5e-6], rtol=1e-9)


def test_the_class_token_becomes_part_of_every_position(pose_task: PoseTask) -> None:
    encoder = make_encoder(class_token=True)
    before = encoder.pos_embed.detach().clone()
    model = finetune.build(
        pose_task.model_copy(update={"size_px": 32, "width_px": 32, "patch_padding": 2}), encoder
    )
    assert torch.equal(encoder.pos_embed, before[:, 1:] + before[:, :1])
    assert encoder.pos_embed.requires_grad
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 17, 8, 8)


def test_a_mirrored_person_keeps_its_sides() -> None:
    assert [NAMES[index] for index in FLIPPED] == [
        name.translate({}).replace("left", "?").replace("right", "left").replace("?", "right")
        for name in NAMES
    ]
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (60, 80, 3)).astype(np.uint8)
    joints = rng.integers(0, 60, (17, 2)).astype(float)
    person = Person(0, np.array([10.0, 5.0, 40.0, 50.0]), joints, np.ones(17, bool), 1.0)
    seen = crops.view(person, image, 0.75)
    turned = crops.hflip(seen)
    x, y = turned.joints[1].astype(int)
    assert (turned.image[y, x] == image[int(joints[2, 1]), int(joints[2, 0])]).all()
    again = crops.hflip(turned)
    np.testing.assert_array_equal(again.joints, joints)
    np.testing.assert_allclose(
        crops.crop_affine(again, (32, 24), None)[0], crops.crop_affine(seen, (32, 24), None)[0]
    )


@pytest.mark.parametrize("augment", ["flip", "peer"])
def test_targets_follow_the_crop(made: Path, pose_task: PoseTask, augment: str) -> None:
    """Decoded targets, brought back through the crop, are the annotated joints."""
    task = pose_task.model_copy(update={"augment": augment, "size_px": 128, "width_px": 96})
    coco = Coco(made, "train")
    for index, person in enumerate(coco.people):
        crop, maps, weights = finetune.example(task, person, coco, np.random.default_rng(index))
        assert crop.shape == (128, 96, 3)
        assert maps.shape == (17, 32, 24)
        assert set(weights.tolist()) <= {0.0, 1.0}
        assert (maps[weights == 0] == 0).all()
        assert (weights[~person.visible[FLIPPED] & ~person.visible] == 0).all()


def test_perfect_maps_give_perfect_scores(
    made: Path, pose_task: PoseTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way back: crops of the annotated boxes, maps as drawn, joints in the image,
    doubles, AP."""
    task = pose_task.model_copy(update={"size_px": 256, "width_px": 192, "augment": "none"})
    coco = Coco(made, "val")
    drawn = iter(
        [
            finetune.example(task, person, coco, np.random.default_rng(0))[1]
            for person in coco.people
        ]
    )
    monkeypatch.setattr(
        finetune, "heat", lambda task, model, images: np.stack([next(drawn) for _ in images])
    )
    found = list(finetune.predict(task, finetune.build(task, make_encoder()), coco, coco.people))
    for one in found:
        inside = one.peaks > 0.8
        assert inside.sum() >= one.person.visible.sum() - 1
        np.testing.assert_allclose(one.joints[inside], one.person.joints[inside], atol=0.02)
    assert score(coco.annotations, [finetune._entry(one) for one in found], PERSON)["AP"] > 0.99


def test_end_to_end(root: Path, pose_task: PoseTask) -> None:
    for boxes, augment in ((None, "flip"), (Path("coco") / DETECTIONS, "peer")):
        task = pose_task.model_copy(update={"boxes": boxes, "augment": augment})
        facts = check(task, root)
        assert facts["images"] == {"train": 8, "val": 5}
        assert facts["splits"]["val"] >= 5
        assert len(facts["digest"]) == 64
        result = run_task(task, as_subject(make_encoder()), folders_in(root))
        assert result.name == "AP"
        assert 0 <= result.value <= 1
        assert result.test_size == 5
        assert len(result.pictures) == 2
        assert result.metrics["boxes"] == facts["boxes"]
        assert {"AP50", "AR", "AP_large"} <= result.metrics.keys()
        again = run_task(task, as_subject(make_encoder()), folders_in(root))
        assert again.metrics == result.metrics


def test_training_learns_the_joints(root: Path, pose_task: PoseTask) -> None:
    """The loss falls well below that of empty maps."""
    task = pose_task.model_copy(
        update={"steps": 60, "batch": 8, "lr": 3e-3, "layer_decay": 1.0, "augment": "none"}
    )
    result = run_task(task, as_subject(make_encoder()), folders_in(root))
    coco = Coco(root / "coco", "train")
    empty = np.mean(
        [
            (finetune.example(task, person, coco, np.random.default_rng(0))[1] ** 2).mean()
            for person in coco.people
        ]
    )
    assert result.metrics["train_loss"] < 0.8 * empty


def test_frozen_means_frozen(root: Path, pose_task: PoseTask) -> None:
    encoder = make_encoder()
    before = {name: value.clone() for name, value in encoder.blocks.state_dict().items()}
    model = finetune.build(pose_task.model_copy(update={"freeze": "encoder"}), encoder)
    finetune.train_model(
        pose_task.model_copy(update={"freeze": "encoder"}),
        model,
        Coco(root / "coco", "train"),
        root / "runs",
    )
    assert all(
        torch.equal(value, before[name]) for name, value in encoder.blocks.state_dict().items()
    )
    assert not any(p.requires_grad for p in model.encoder.parameters())


# ---------------------------------------------------------------------------- data


def test_real_samples(real_data: Path, tmp_path: Path, pose_task: PoseTask) -> None:
    folder = official(real_data, tmp_path)
    coco = Coco(folder, "val")
    assert len(coco.images) == 4
    assert len(coco.annotations["annotations"]) == 14
    assert coco.sizes[785] == (425, 640)
    skier = next(person for person in coco.people if person.image == 785)
    np.testing.assert_allclose(skier.box, [280.79, 44.73, 217.7, 345.68])
    assert skier.joints[0].tolist() == [367, 81]
    assert skier.visible.all()
    assert len(coco.detected(folder / "boxes.json")) == 118
    facts = check(pose_task.model_copy(update={"boxes": Path("coco/boxes.json")}), tmp_path)
    assert facts["boxes"] == 118
    assert facts["images"]["val"] == 4


def test_the_generated_set_is_the_same_again_and_different_from_others(
    made: Path, tmp_path: Path
) -> None:
    for seed, equal in ((1, True), (2, False)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        toy_datasets.write(SET.model_copy(update={"first_seed": seed}), folder)
        files = [path.relative_to(made) for path in sorted(made.rglob("*.*"))]
        assert (
            all((folder / path).read_bytes() == (made / path).read_bytes() for path in files)
            is equal
        )
    assert {0, 1, 2} >= set(
        np.reshape(Coco(made, "train").annotations["annotations"][0]["keypoints"], (17, 3))[
            :, 2
        ].tolist()
    )


@pytest.mark.parametrize("file", ["annotations/person_keypoints_val2017.json", DETECTIONS])
def test_other_joints_and_other_detections_are_other_data(
    root: Path, pose_task: PoseTask, file: str
) -> None:
    """Equal in number: an evaluation that is there is not of them."""
    task = pose_task.model_copy(update={"boxes": Path("coco") / DETECTIONS})
    before = check(task, root)
    path = root / "coco" / file
    path.write_text(re.sub(r"(\d+\.\d)(\d*)", r"\g<1>1", path.read_text()))
    after = check(task, root)
    assert before["splits"] == after["splits"]
    assert before != after


def test_bad_data(root: Path, pose_task: PoseTask) -> None:
    path = root / "coco/annotations/person_keypoints_val2017.json"
    text = path.read_text()

    def refused(changed: Any, match: str) -> None:
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
        with pytest.raises(BadInput, match=match) as error:
            check(pose_task, root)
        assert "\n" not in str(error.value)
        path.write_text(text)

    def annotated(**fields: Any) -> dict[str, Any]:
        whole = json.loads(text)
        whole["annotations"][0] |= fields
        return whole

    good = json.loads(text)["annotations"][0]["keypoints"]
    refused(text[:500], "not whole JSON")
    refused({"images": []}, "person_keypoints file")
    refused(annotated(keypoints=good[:30]), "no box and 17 joints")
    refused(annotated(keypoints=[*good[:50], 7]), "visibility is not 0, 1 or 2")
    refused(annotated(keypoints=[5000, 5, 2, *good[3:]]), "outside the image of 96 x 72")
    refused(annotated(image_id=5), "is of image 5")
    refused(annotated(keypoints=[float("nan"), *good[1:]]), "is no number .NaN or infinite")
    refused(annotated(bbox=[float("nan"), 2, 30, 30]), "is no number .NaN or infinite")
    refused(annotated(bbox=None), "no box and 17 joints")
    for area in (0, None, float("nan"), "9"):
        refused(annotated(area=area), f"has the area {area!r}; scoring needs")
    unlabelled = json.loads(text)
    del unlabelled["annotations"][0]["num_keypoints"]
    refused(unlabelled, "annotation [0-9]+: no num_keypoints; is it")
    twice = json.loads(text)
    twice["images"].append(twice["images"][0])
    refused(twice, "1 images have the id of another")
    image = next((root / "coco/val2017").iterdir())
    photo = image.read_bytes()
    cv2.imwrite(str(image), np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(BadInput, match="10 x 10, the annotations say 96 x 72"):
        check(pose_task, root)
    image.write_bytes(photo[:200])
    with pytest.raises(BadInput, match="damaged"):
        run_task(pose_task, as_subject(make_encoder()), folders_in(root))
    image.unlink()
    with pytest.raises(BadInput, match="no such file"):
        check(pose_task, root)


def test_bad_boxes(root: Path, pose_task: PoseTask) -> None:
    coco, path = Coco(root / "coco", "val"), root / "boxes.json"
    for content, match in (
        ({}, "not a list"),
        ([{"image_id": 1}], "lacks image_id"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 1}], "wrong split"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, NAN], "score": 1}], "no number"),
        ([], "no person among 0"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(BadInput, match=match):
            coco.detected(path)
    with pytest.raises(BadInput, match="do not divide"):
        finetune.build(pose_task.model_copy(update={"width_px": 20}), make_encoder())
