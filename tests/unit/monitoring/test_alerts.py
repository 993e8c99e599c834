"""AlertSender reach a real web server, and one that hangs, fails or is not there costs the run nothing."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.recipes import SMALL, error_of, load
from helpers.timeouts import WAIT
from helpers.webhook import SECRET, VARIABLE, Hook, serving

from smolmake.errors import UserError
from smolmake.monitoring import alerts
from smolmake.monitoring.alerts import AlertSender, check_webhook
from smolmake.monitoring.events import Events, read_events

SETTINGS = {"webhook_env": VARIABLE, "pause": 600.0}


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with serving() as server:
        monkeypatch.setenv(VARIABLE, server.address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server


def test_an_event_is_posted_with_a_text_and_its_fields(hook: Hook, tmp_path: Path) -> None:
    sender = AlertSender(SETTINGS, {"segment": "stage1-0-10-abc"})
    told = Events(tmp_path, alerts=sender)
    told.add("saving", 7, "the recovery checkpoint could not be written")
    told.add("resumed", 8, "resuming at step 8")  # nothing to look at
    sender.close()
    (message,) = hook.got
    assert message["text"] == "stage1-0-10-abc: step 7: the recovery checkpoint could not be written"
    assert (message["kind"], message["step"], message["segment"]) == ("saving", 7, "stage1-0-10-abc")
    assert len(read_events(tmp_path)) == 2


def test_a_kind_is_posted_once_in_its_time_and_other_kinds_beside_it(hook: Hook) -> None:
    sender = AlertSender(SETTINGS, {})
    for number in range(5):
        sender.post("throughput_drop", f"number {number}")
    sender.post("upload", "another")
    sender.close()
    assert sorted(message["what"] for message in hook.got) == ["another", "number 0"]
    unlimited = AlertSender(SETTINGS | {"pause": 0.0}, {})
    unlimited.post("throughput_drop", "again")
    unlimited.post("throughput_drop", "and again")
    unlimited.close()
    assert len(hook.got) == 4


def test_a_server_that_hangs_holds_nobody_up(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(alerts, "LIMIT", 2.0)
    hook.released.clear()
    sender = AlertSender(SETTINGS, {})
    began = time.monotonic()
    sender.post("stopped", "by SIGTERM")
    assert time.monotonic() - began < 1.5
    sender.close()
    assert time.monotonic() - began < 10
    for thread in sender.under_way:
        thread.join(WAIT)
    said = capfd.readouterr().err
    assert len(hook.got) == 1 and "did not reach" in said and VARIABLE in said and SECRET not in said


def test_a_server_that_fails_or_is_gone_is_told_without_its_address(
    hook: Hook, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.status = 500
    sender = AlertSender(SETTINGS, {})
    sender.post("upload", "failed")
    sender.close()
    monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:1{SECRET}")
    sender.post("saving", "failed")
    sender.close()
    said = capfd.readouterr().err
    assert f"not taken by the webhook of {VARIABLE}: 500" in said and "did not reach" in said
    assert SECRET not in said and len(hook.got) == 1


def test_without_settings_or_in_other_processes_nothing_is_sent(hook: Hook) -> None:
    for sender in (AlertSender(None, {}), AlertSender(SETTINGS, {}, active=False)):
        sender.post("stopped", "by SIGTERM")
        sender.close()
    assert hook.got == []


def test_a_recipe_names_the_variable_and_an_empty_one_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(tree, SMALL + "runtime: {alerts: {}}\n")
    assert recipe.runtime.alerts is not None
    settings = recipe.runtime.alerts.model_dump()
    assert settings == SETTINGS
    monkeypatch.setenv(VARIABLE, "https://example.org/x")
    check_webhook(settings)
    check_webhook(None)
    for wrong in ("", "file:///etc/passwd"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(UserError, match="no address") as caught:
            check_webhook(settings)
        assert "passwd" not in str(caught.value)
    error_of(tree, SMALL + "runtime: {alerts: {webhook_env: 'https://hooks.example.org/T0'}}\n")
