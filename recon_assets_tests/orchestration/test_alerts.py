import logging
from collections.abc import Iterator

import pytest

from recon_assets.errors import ConfigurationError
from recon_assets.orchestration.alerts import AlertError, Alerts
from recon_assets_tests.support.receiver import Receiver

NOBODY = "json://ann:s3cret@127.0.0.1:9/t0ken/"
"""The port of a service that no machine offers any more."""
SECRETS = ("s3cret", "t0ken")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_every_receiver_is_told(receiver: Receiver) -> None:
    with Receiver() as other:
        assert Alerts([receiver.url, other.url]).send("the title", "why:\n\n2 < 3, £ & 'so'") == 0

    (message,) = receiver.messages
    assert (message["title"], message["message"]) == ("the title", "why:\n\n2 < 3, £ & 'so'")
    assert other.titles == ["the title"]


def test_one_receiver_who_cannot_be_reached_keeps_nobody_else_from_being_told(receiver: Receiver) -> None:
    assert Alerts([NOBODY, receiver.url]).send("the title", "why") == 1

    assert receiver.titles == ["the title"]


def test_when_nobody_can_be_reached_it_is_an_error(receiver: Receiver) -> None:
    receiver.is_down = True

    with pytest.raises(AlertError) as refused:
        Alerts([NOBODY, receiver.url]).send("the title", "why")

    assert str(refused.value) == "no receiver of RECON_ALERT_URLS could be reached to tell: the title"
    assert receiver.messages == []


def test_without_receivers_nothing_is_sent_and_nothing_is_wrong() -> None:
    assert Alerts([]).send("the title", "why") == 0


@pytest.mark.parametrize("url", ["nonsense", "nosuch://ann:s3cret@t0ken", "mailto://s3cret", "slack://s3cret"])
def test_a_url_that_is_not_understood_is_named_by_its_number_only(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(ConfigurationError) as refused:
        Alerts([NOBODY, url])

    assert str(refused.value).startswith("RECON_ALERT_URLS: URL 2 of 2 is not understood")
    assert not any(secret in str(refused.value) + caplog.text for secret in SECRETS)


def test_no_password_is_logged_whoever_is_reached(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    alerts = Alerts([receiver.url, NOBODY])
    with caplog.at_level(logging.INFO):
        alerts.send("the title", "why")
        receiver.is_down = True
        with pytest.raises(AlertError):
            alerts.send("the title", "why")

    assert not any(secret in caplog.text for secret in SECRETS)
