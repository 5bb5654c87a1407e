"""The plan for one writer's schema: which columns come from which fields. It is made once per schema.

Both decoders read the leaves of a plan as wire columns, and ``conversion.finish`` turns these into the columns of
items, so the two decoders cannot differ in that step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from consumer.avro.leaves import (
    BRANCH,
    FITTING,
    RECORD_NAME_STEP,
    Fitting,
    Leaf,
    fit_condition,
    fitting_time,
    list_types,
)
from consumer.avro.lines import Lines, line_type
from consumer.avro.mapping import KEY_FIELD, EventMapping
from consumer.avro.writer_schema import Type, UnusableSchemaError
from consumer.core.changes.items import IDENTIFIERS, LOCATION
from consumer.settings.event_sources import OCCURRED_AT_FIELD, REQUIRED_TARGETS, Condition, FieldPath

_ROW, _PREVIOUS_ROW, _OPERATION = "after", "before", "op"


@dataclass(frozen=True, slots=True)
class FieldTest:
    """Whether a leaf's value is one of these; ``previous`` is read instead when the event is an envelope's delete.

    ``always``: the answer, if the schema alone decides.
    """

    leaf: Leaf | None
    previous: Leaf | None
    values: frozenset[str]
    always: bool | None = None


@dataclass(frozen=True)
class FieldPlan:
    """How a schema's events become columns.

    ``columns`` has the leaves of each target that the schema has, in the order in which they are tried. ``previous``
    has those of the row before the change, for the location and the item key; it is None, as is ``operation``, unless
    the schema is a Debezium envelope. ``left_out`` says of each target without a leaf why its field does not fit.
    ``absent`` are the settings that name a field which the schema does not have, each with the field.
    ``lines`` says where the changes of an event are, and then the paths of leaves are those in an event with one line;
    None: an event is one change.
    """

    root: Type
    mapping: EventMapping
    columns: Mapping[str, tuple[Leaf, ...]]
    left_out: Mapping[str, str]
    absent: frozenset[tuple[str, str]] = frozenset()
    previous: Mapping[str, tuple[Leaf, ...]] | None = None
    operation: Leaf | None = None
    take: tuple[FieldTest, ...] = ()
    skip: tuple[FieldTest, ...] = ()
    deleted_when: tuple[FieldTest, ...] = ()
    lines: Lines | None = None

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """All leaves; each wire column once."""
        found = [leaf for leaves in self.columns.values() for leaf in leaves]
        found += [leaf for leaves in (self.previous or {}).values() for leaf in leaves]
        tests = [*self.take, *self.skip, *self.deleted_when]
        found += [leaf for test in tests for leaf in (test.leaf, test.previous) if leaf is not None]
        found += [self.operation] if self.operation is not None else []
        return tuple({leaf.column: leaf for leaf in found}.values())

    @cached_property
    def read_fields(self) -> frozenset[str]:
        """The event's top-level fields that are read; the others are skipped."""
        repeated = () if self.lines is None else self.lines.paths
        return frozenset(path[0] for path in (*(leaf.path for leaf in self.leaves), *repeated))


def plan_fields(root: Type, mapping: EventMapping) -> FieldPlan:
    """Find the field of each target in a schema. An alias in the schema also leads to a field.

    Raises UnusableSchemaError, naming field, type and setting, if the location, the quantity or all identifiers are
    missing, if a field of ``REQUIRED_TARGETS`` has a type that cannot be converted, or if one of
    ``events.take`` is missing.
    """
    if root.kind != "record":
        raise UnusableSchemaError(f"the schema is a {root.kind}, not a record")
    lines = None
    event = root
    if mapping.items is not None:
        event, repeated = line_type(root, mapping.items)
        lines = Lines(repeated, mapping.settings.lines_max)
    finder = _Finder(event, mapping)
    if lines is not None and finder.is_envelope:
        raise UnusableSchemaError("a Debezium envelope is one change: set events.envelope: none to read events.items")
    finder.find_all()
    previous = {
        target: finder.previous(leaves) for target, leaves in finder.columns.items() if target in REQUIRED_TARGETS
    }
    # The row's own time is not that of its deletion.
    times = finder.columns.get(OCCURRED_AT_FIELD, ())
    previous[OCCURRED_AT_FIELD] = tuple(leaf for leaf in times if leaf.path[0] != _ROW)
    tests = {
        setting: tuple(finder.test(condition, setting) for condition in conditions)
        for setting, conditions in (
            ("take", mapping.take),
            ("skip", mapping.skip),
            ("deleted_when", mapping.deleted_when),
        )
    }
    return FieldPlan(
        root,
        mapping,
        finder.columns,
        finder.left_out,
        frozenset(finder.absent),
        previous if finder.is_envelope else None,
        finder.leaf((_OPERATION,), fit_condition, "the operation") if finder.is_envelope else None,
        lines=lines,
        **tests,
    )


def is_record_taken(root: Type, mapping: EventMapping) -> bool:
    """Whether ``events.take`` and ``events.skip`` choose records of this name, as far as they say so of names."""
    wanted = [condition.values for condition in mapping.take if condition.path == (RECORD_NAME_STEP,)]
    unwanted = [condition.values for condition in mapping.skip if condition.path == (RECORD_NAME_STEP,)]
    return all(_named(root.name, values) for values in wanted) and not any(
        _named(root.name, values) for values in unwanted
    )


def plan_key(root: Type, mapping: EventMapping) -> FieldPlan:
    """Find the fields of a key's schema from which targets come. The key may be of any type.

    Raises UnusableSchemaError if a field has a type that cannot be converted.
    """
    # A record with one field has the same bytes as the field.
    whole = Type("record", (root,), (KEY_FIELD,), ((),))
    finder = _Finder(whole, mapping)
    for target in mapping.sources:
        finder.find(target)
    return FieldPlan(whole, mapping, finder.columns, finder.left_out)


def is_envelope(root: Type) -> bool:
    """Whether events are Debezium envelopes: the row before and after a change, and the operation."""
    rows = [root.index_of(name) for name in (_ROW, _PREVIOUS_ROW)]
    operation = root.index_of(_OPERATION)
    if None in rows or operation is None:
        return False
    after, before = (root.children[index].branches for index in rows if index is not None)
    return (
        [branch.kind for branch in after] == ["record"]
        and [branch.kind for branch in before] == ["record"]
        and after[0].names == before[0].names
        and {branch.kind for branch in root.children[operation].branches} == {"string"}
    )


class _Finder:
    """Finds leaves in one schema. ``columns``, ``left_out`` and ``absent`` are as in ``FieldPlan``."""

    def __init__(self, root: Type, mapping: EventMapping) -> None:
        self._root = root
        self._mapping = mapping
        self.is_envelope = mapping.settings.envelope != "none" and is_envelope(root)
        self.columns: dict[str, tuple[Leaf, ...]] = {}
        self.left_out: dict[str, str] = {}
        self.absent: set[tuple[str, str]] = set()
        if mapping.settings.envelope == "debezium" and not self.is_envelope:
            raise UnusableSchemaError(
                "the schema is no Debezium envelope with before, after and op (events.envelope: debezium)"
            )

    def find_all(self) -> None:
        for target in self._mapping.sources:
            self.find(target)
        for required in (LOCATION, "quantity"):
            if not self._is_found(required):
                raise UnusableSchemaError(
                    f"the schema has no field {self._names(required)} (events.fields.{required} is needed)"
                )
        if not any(self._is_found(name) for name in IDENTIFIERS):
            missing = ", ".join(self._names(name) for name in IDENTIFIERS if self._mapping.paths(name))
            raise UnusableSchemaError(f"the schema has none of the fields {missing} (events.fields needs one of them)")

    def _is_found(self, target: str) -> bool:
        return bool(self.columns.get(target) or self._mapping.record_sources(target))

    def _names(self, target: str) -> str:
        return " or ".join(".".join(path) for path in self._mapping.paths(target)) or target

    def find(self, target: str) -> None:
        fitting = FITTING.get(target) or fitting_time(self._mapping.undeclared_unit)
        leaves: list[Leaf] = []
        problem: UnusableSchemaError | None = None
        for path in self._mapping.paths(target):
            try:
                leaf = self.leaf(path, fitting, target)
            except UnusableSchemaError as error:
                problem = problem or error
            else:
                if leaf is None:
                    self.absent.add((f"events.fields.{target}", ".".join(path)))
                elif leaf not in leaves:
                    leaves.append(leaf)
        if leaves:
            self.columns[target] = tuple(leaves)
        elif problem is not None and target in REQUIRED_TARGETS:
            raise UnusableSchemaError(f"{problem} (events.fields.{target})")
        elif problem is not None:
            self.left_out[target] = f"{problem} (events.fields.{target})"

    def leaf(self, path: tuple[str, ...], fitting: Fitting, what: str) -> Leaf | None:
        """The leaf at a path; None if there is no field, or if it can only be null.

        In an envelope, a path leads into the row after the change, otherwise into the envelope itself.
        """
        if not self.is_envelope or path[0] in {_ROW, _PREVIOUS_ROW}:
            return _leaf(self._root, path, fitting, what)
        problem: UnusableSchemaError | None = None
        for tried in ((_ROW, *path), path):
            try:
                leaf = _leaf(self._root, tried, fitting, what)
            except UnusableSchemaError as error:
                problem = problem or error
            else:
                if leaf is not None:
                    return leaf
        if problem is not None:
            raise problem
        return None

    def previous(self, leaves: Sequence[Leaf]) -> tuple[Leaf, ...]:
        """The same leaves in the row before the change; a leaf of the envelope itself stays as it is."""
        return tuple(_previous(leaf) or leaf for leaf in leaves)

    def test(self, condition: Condition, setting: str) -> FieldTest:
        """The test for a condition. Raises UnusableSchemaError if events.take names a field that the schema lacks."""
        if condition.path == (RECORD_NAME_STEP,):
            return FieldTest(None, None, condition.values, always=_named(self._root.name, condition.values))
        try:
            leaf = self.leaf(condition.path, fit_condition, f"a value of events.{setting}")
        except UnusableSchemaError:
            if setting == "take":
                raise
            leaf = None
        if leaf is None:
            if setting == "take":
                raise UnusableSchemaError(f"the schema has no field {condition}, which events.take tests")
            self.absent.add((f"events.{setting}", str(condition)))
            return FieldTest(None, None, condition.values, always=False)
        values = condition.values
        if leaf.path[-1] == RECORD_NAME_STEP:
            values = frozenset(name for name in leaf.symbols if _named(name, values))
            if len(leaf.symbols) == 1:
                return FieldTest(None, None, values, always=bool(values))
        return FieldTest(leaf, _previous(leaf) if self.is_envelope else None, values)


def _previous(leaf: Leaf) -> Leaf | None:
    if leaf.path[0] != _ROW:
        return None
    return Leaf(
        (_PREVIOUS_ROW, *leaf.path[1:]),
        leaf.kind,
        leaf.int32,
        leaf.symbols,
        leaf.scale,
        leaf.unit,
        leaf.declared,
        leaf.described,
    )


def _named(name: str, values: frozenset[str]) -> bool:
    """Whether a record's full name, or the last part of it, is one of these."""
    return name in values or name.rpartition(".")[2] in values


def _leaf(root: Type, path: tuple[str, ...], fitting: Fitting, what: str) -> Leaf | None:
    types = [root]
    steps: list[str] = []
    for depth, name in enumerate(path):
        branches = [branch for schema in types for branch in schema.branches]
        records = [branch for branch in branches if branch.kind == "record"]
        if branches and not records:
            outer = ".".join(path[:depth])
            raise UnusableSchemaError(
                f"the field {outer} is {list_types(branches)}, not a record with the field {name}"
            )
        if name == RECORD_NAME_STEP and depth == len(path) - 1:
            return _record_name(tuple(steps), records)
        found = [(record, index) for record in records if (index := record.index_of(name)) is not None]
        named = [record for record in records if _named(record.name, frozenset({name}))]
        if not found and named:
            types = named[:1]
            steps += [BRANCH + named[0].name] if len(branches) > 1 else []
            continue
        if len({record.names[index] for record, index in found}) > 1:
            raise UnusableSchemaError(f"the field {'.'.join(path)} has several names, as {what} ({name})")
        steps += [record.names[index] for record, index in found[:1]]
        types = [record.children[index] for record, index in found]
    branches = [branch for schema in types for branch in schema.branches]
    if not branches:
        return None
    leaf = fitting(tuple(steps), branches)
    if leaf is None:
        raise UnusableSchemaError(f"the field {'.'.join(path)} is {list_types(branches)}, which cannot become {what}")
    return leaf


def _record_name(steps: tuple[str, ...], records: Sequence[Type]) -> Leaf | None:
    if not records:
        return None
    names = tuple(record.name for record in records)
    return Leaf((*steps, RECORD_NAME_STEP), "text", symbols=names, described="the record's name")


def described_sources(mapping: EventMapping, plan: FieldPlan | None) -> dict[str, str]:
    """In words, the sources of each target that has any; without a plan, only those outside the event's value."""
    described: dict[str, str] = {}
    for target, sources in mapping.sources.items():
        leaves = plan.columns.get(target, ()) if plan is not None else ()
        found = [str(leaf) for leaf in leaves]
        first = next((source for source in sources if isinstance(source, FieldPath)), None)
        words: list[str] = []
        for source in sources:
            if source == first:
                words += found
            elif not isinstance(source, FieldPath):
                words.append(str(source))
        if plan is not None and target in plan.left_out:
            words.append(plan.left_out[target])
        if words:
            described[target] = ", otherwise ".join(words)
    return described


def value_at(record: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value at a path of nested records; None if one of the records is null or another branch of its union."""
    value: Any = record
    for name in path:
        if not isinstance(value, dict):
            return None
        only = next(iter(value)) if len(value) == 1 else ""
        wrapped = only if only.startswith(BRANCH) else None
        if name == RECORD_NAME_STEP:
            return None if wrapped is None else wrapped.removeprefix(BRANCH)
        if wrapped is not None and not name.startswith(BRANCH):
            value = value[wrapped]
            if not isinstance(value, dict):
                return None
        value = value.get(name)
    return value
