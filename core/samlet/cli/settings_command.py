"""Commands whose options are the fields of a settings class."""

import inspect
import types
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic.fields import FieldInfo

from samlet.cli.common import check_folder
from samlet.training.settings import TrainSettings, resolve_settings

S = TypeVar("S", bound=TrainSettings)


def settings_command(
    kind: type[S], arguments: Collection[str]
) -> Callable[[Callable[[S, Path], None]], Callable[..., None]]:
    """Make a typer command of a function of (settings, folder of the run).

    Every field of `kind` becomes an option with its type, default and description, beside --out and
    --config, the YAML file that stands between defaults and flags. The docstring stays.

    Args:
        kind: a settings class.
        arguments: fields that are positional arguments instead.
    """

    def decorate(run: Callable[[S, Path], None]) -> Callable[..., None]:
        def command(ctx: typer.Context, out: Path, config: Path | None, **values: Any) -> None:
            flags = {n: v for n, v in values.items() if _is_given(ctx, n)}
            run(resolve_settings(kind, config, flags), out)

        fields = {
            name: _parameter(name, field, name in arguments)
            for name, field in kind.model_fields.items()
        }
        parameters = {
            "ctx": _keyword("ctx", typer.Context, inspect.Parameter.empty),
            **{name: fields.pop(name) for name in arguments},
            "out": _keyword(
                "out",
                Annotated[
                    Path,
                    typer.Option(
                        help="Folder of the run; the same command resumes a run there.",
                        callback=check_folder,
                    ),
                ],
                inspect.Parameter.empty,
            ),
            "config": _keyword(
                "config",
                Annotated[
                    Path | None,
                    typer.Option(help="YAML file with these options; flags override it."),
                ],
                None,
            ),
            **fields,
        }
        command.__name__, command.__doc__ = run.__name__, run.__doc__
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            list(parameters.values())
        )
        return command

    return decorate


def field_help(field: FieldInfo) -> str:
    """The description of a field, on one line."""
    return " ".join((field.description or "").split())


def _parameter(name: str, field: FieldInfo, is_argument: bool) -> inspect.Parameter:
    kind = _plain_type(field.annotation)
    # A required field may come from the YAML file.
    default = None if field.is_required() else field.default
    annotation: Any = bool | None
    metavar = None
    if kind is not bool:
        # As text, so that the settings class explains what is wrong with it, as in a YAML file.
        annotation, metavar = str | None, _metavar(kind)
        default = None if default is None else str(default)
    if is_argument:
        info = typer.Argument(help=field_help(field), metavar=name.upper())
    else:
        panel = "Training" if name in TrainSettings.model_fields else None
        info = typer.Option(help=field_help(field), metavar=metavar, rich_help_panel=panel)
    return _keyword(name, Annotated[annotation, info], default)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )


def _plain_type(annotation: Any) -> Any:
    """A type without constraints, and without None."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (a for a in typing.get_args(annotation) if a is not types.NoneType)
    if typing.get_origin(annotation) is Annotated:
        return _plain_type(typing.get_args(annotation)[0])
    return annotation


def _metavar(kind: Any) -> str | None:
    if typing.get_origin(kind) is typing.Literal:
        return f"<{'|'.join(typing.get_args(kind))}>"
    return {int: "<int>", float: "<float>"}.get(kind)


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
