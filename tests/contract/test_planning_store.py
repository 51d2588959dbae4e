"""What a plan reads out of the store, on SQLite and PostgreSQL, after real runs against a loopback vendor."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import select, update

from batcher.budget.ledger import Account, Movement, Movements, job_account
from batcher.cli.confirming import confirmed, price_job
from batcher.documents.corpus import Parsed, Rejected, document_of_text
from batcher.documents.records import document_of_images
from batcher.domain import Image
from batcher.planning.caps import read_books
from batcher.planning.evidence import Knowledge, Source
from batcher.planning.history import History, read_history
from batcher.planning.judging import JudgingPrice, price_judging
from batcher.planning.pricing import price_left
from batcher.planning.record import Estimate
from batcher.planning.requests import fit_of
from batcher.planning.survey import Stored, Survey, take_survey
from batcher.quality.sampling import Sampling
from batcher.runtime import Runtime
from batcher.store.jobs import Job, get_job, set_estimate
from batcher.store.tables import items, jobs
from tests.support.runs import JUDGE, MODEL, TASK, job_of, make_job, rows, run, spent
from tests.support.vendor_server import VendorServer

OTHER = "gpt-4.1-mini"
TEXTS = {f"doc-{number}": f"Document number {number} on rivers and bridges." for number in range(10)}
MORE = {f"more-{number}": f"Another text, number {number}, on rivers and bridges." for number in range(20)}


def history_of(runtime: Runtime) -> History:
    with runtime.store.read() as connection:
        return read_history(connection, TASK.spec({}), runtime.catalog)


def survey_of(
    runtime: Runtime, corpus: list[Parsed | Rejected], job: Job | None, *, image_tier: str | None = None
) -> Survey:
    with runtime.store.read() as connection:
        stored = Stored(connection, [MODEL], 0, job.id if job else None)
        return take_survey(corpus, TASK.spec({}), image_tier, stored)


def parsed(texts: dict[str, str]) -> list[Parsed | Rejected]:
    return [Parsed(source, document_of_text(text)) for source, text in texts.items()]


def test_an_empty_store_has_no_history(runtime: Runtime) -> None:
    assert history_of(runtime) == History()


def test_history_is_what_the_settled_attempts_hold(runtime: Runtime, vendor_server: VendorServer) -> None:
    vendor_server.add_fault(text="no JSON", contains="number 3", times=1)
    job = make_job(runtime, TEXTS)
    run(runtime, job.id)
    made = rows(runtime, "attempts")
    firsts = [attempt for attempt in made if attempt.purpose == "answer"]
    assert len(made) == 11
    measured = history_of(runtime).same_task[MODEL]
    assert (measured.asks, measured.first_calls, measured.items, measured.climbed) == (10, 10, 10, 0)
    assert measured.input_tokens == sum(attempt.input_tokens for attempt in firsts)
    assert measured.output_tokens == sum(attempt.output_tokens for attempt in firsts) / 10
    assert measured.all_nusd == sum(attempt.cost_nusd for attempt in made) == spent(runtime)
    repair = sum(attempt.cost_nusd for attempt in made if attempt.purpose == "repair")
    assert measured.extra_share == pytest.approx(repair / measured.first_nusd)


def test_a_climb_is_counted_where_it_began(runtime: Runtime, vendor_server: VendorServer) -> None:
    vendor_server.add_fault(text="no JSON", vendor="together", contains="number 4", times=2)
    job = make_job(runtime, TEXTS, model=None, ladder=("economy", "standard"))
    run(runtime, job.id)
    tiers = {attempt.tier for attempt in rows(runtime, "attempts")}
    assert tiers == {"economy", "standard"}
    start = runtime.catalog.tiers["economy"][0]
    history = history_of(runtime)
    assert history.same_task[start].climb_share == pytest.approx(0.1)
    assert history.same_task[start].asks == 10
    [above] = history.same_task.keys() - {start}
    assert (history.same_task[above].asks, history.same_task[above].items) == (1, 0)


def test_another_task_tells_of_tokens_and_not_of_answers(runtime: Runtime) -> None:
    other = dataclasses.replace(TASK, version=2)
    run(runtime, make_job(runtime, TEXTS, task=other).id)
    history = history_of(runtime)
    assert history.same_task == {}
    assert history.inputs[MODEL].calls == 10
    fit = fit_of(TASK.spec({}), runtime.catalog.models[MODEL], runtime.catalog)
    evidence = Knowledge(TASK.spec({}), history).of(fit)
    assert evidence.output_from is Source.SCHEMA
    assert evidence.input_calls == 10
    assert evidence.latency_s == history.latencies_s[MODEL] > 0


def test_evidence_goes_from_measured_to_other_models_to_guesses(runtime: Runtime) -> None:
    run(runtime, make_job(runtime, TEXTS).id)
    history, spec = history_of(runtime), TASK.spec({})
    knowledge = Knowledge(spec, history)
    own = knowledge.of(fit_of(spec, runtime.catalog.models[MODEL], runtime.catalog))
    assert own.output_from is Source.MEASURED
    assert own.output.answers == 10
    assert own.output.typical == history.same_task[MODEL].output_tokens
    foreign = knowledge.of(fit_of(spec, runtime.catalog.models[OTHER], runtime.catalog))
    assert foreign.output_from is Source.OTHER_MODELS
    assert foreign.output == own.output
    assert (foreign.input_calls, foreign.extra_share, foreign.latency_s) == (0, 0, None)


def test_the_likely_price_of_the_rest_is_what_it_costs(runtime: Runtime) -> None:
    run(runtime, make_job(runtime, TEXTS).id)
    before = spent(runtime)
    job = make_job(runtime, MORE)
    with runtime.store.read() as connection:
        price = price_left(connection, job, runtime.catalog, runtime.is_usable)
    run(runtime, job.id)
    assert price.items == 20
    assert price.likely_nusd == pytest.approx(spent(runtime) - before, rel=0.1)
    assert price.low_nusd < price.likely_nusd < price.high_nusd < price.worst_nusd


def test_the_price_of_judging_is_what_judging_costs(runtime: Runtime) -> None:
    """Known from a first run, of answers to come, of answers drawn, and of those that were asked about."""
    sampling = Sampling(share=1.0, at_least=0, seed=1, judge=JUDGE)
    run(runtime, make_job(runtime, TEXTS, sampling=sampling).id)
    before = judging_nusd(runtime)
    job = make_job(runtime, MORE, sampling=sampling)
    price = judging_price(runtime, job)
    assert price is not None
    assert (price.judge, price.tier, price.answers, price.price.items) == (JUDGE, "premium", 20, 0)
    run(runtime, job.id)
    cost = judging_nusd(runtime) - before
    assert price.price.likely_nusd == pytest.approx(cost, rel=0.1)
    assert price.price.likely_nusd < price.price.high_nusd < price.price.worst_nusd
    assert judging_price(runtime, job_of(runtime, job.id)) is None, "nothing is left"


def test_what_is_drawn_or_asked_about_and_not_judged_is_priced_too(runtime: Runtime) -> None:
    drawn = Sampling(share=1.0, at_least=0, seed=1)
    job = make_job(runtime, TEXTS, sampling=drawn)
    run(runtime, job.id)
    with runtime.store.write() as connection:
        judged = dataclasses.replace(drawn, judge=JUDGE).to_json()
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(sampling=judged))
    waits = judging_price(runtime, job_of(runtime, job.id))
    assert runtime.judging.keep_up(None, at_once=True)
    asked = judging_price(runtime, job_of(runtime, job.id))
    assert waits is not None
    assert asked is not None
    assert (waits.answers, asked.answers) == (10, 10)
    assert waits.price.likely_nusd == pytest.approx(asked.price.likely_nusd, rel=0.1)


def test_what_workers_are_at_already_is_told_and_kept_with_the_price(
    runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(runtime, MORE, sampling=Sampling(share=1.0, at_least=0, seed=1, judge=JUDGE))
    job = dataclasses.replace(job, source_options='{"folder": "."}')
    found = price_job(runtime, job)
    with runtime.store.write() as connection:
        taken = select(items.c.id).where(items.c.job_id == job.id).order_by(items.c.id).limit(15)
        connection.execute(update(items).where(items.c.id.in_(taken)).values(status="leased"))
        account = job_account(job.id)
        runtime.ledger.move(connection, _spent_on(account))
    assert confirmed(runtime, job, yes=True)
    told = capsys.readouterr().err
    assert "Price of 20 calls: " in told
    assert "Spent on it so far: $1.00." in told
    assert "judging about 20 answers" in told
    kept = Estimate.of_job(job_of(runtime, job.id))
    assert kept is not None
    assert (kept.items, kept.likely_nusd) == (20, found.all.likely_nusd + 10**9)
    with runtime.store.write() as connection:
        connection.execute(update(items).where(items.c.job_id == job.id).values(status="done"))
    assert confirmed(runtime, job, yes=True)
    assert "Nothing is left to pay for. Spent on it so far: $1.00." in capsys.readouterr().err


def _spent_on(account: Account) -> Movements:
    movements = Movements()
    movements.add_to(account, Movement(0, 10**9))
    return movements


def judging_price(runtime: Runtime, job: Job) -> JudgingPrice | None:
    with runtime.store.read() as connection:
        return price_judging(connection, [job], runtime.catalog, runtime.is_usable)


def judging_nusd(runtime: Runtime) -> int:
    return sum(row.cost_nusd for row in rows(runtime, "attempts") if row.purpose == "judge")


def test_items_of_one_content_are_priced_once(runtime: Runtime) -> None:
    job = make_job(runtime, {**TEXTS, **{f"copy-{source}": text for source, text in TEXTS.items()}})
    with runtime.store.read() as connection:
        price = price_left(connection, job, runtime.catalog, runtime.is_usable)
    assert (price.items, price.calls) == (10, 10)


def test_a_survey_knows_what_is_answered_twice_there_and_rejected(runtime: Runtime) -> None:
    run(runtime, make_job(runtime, TEXTS).id)
    copies = {f"copy-{source}": text for source, text in MORE.items()}
    corpus = [*parsed({**TEXTS, **MORE, **copies}), Rejected("x.pdf", "encrypted", "It is.")]
    survey = survey_of(runtime, corpus, None)
    assert (survey.read, survey.reused, survey.new, survey.duplicates) == (51, 10, 20, 20)
    assert survey.rejected == {"encrypted": 1}
    assert survey.texts.documents == 20
    assert survey.tokens.count == 50
    job = make_job(runtime, [*corpus])
    with runtime.store.read() as connection:
        price = price_left(connection, job, runtime.catalog, runtime.is_usable)
    assert price.items == survey.new


def test_pictures_need_a_model_that_sees(runtime: Runtime) -> None:
    scan = document_of_images([Image("image/png", b"not looked at", 10, 10)])
    corpus: list[Parsed | Rejected] = [Parsed("scan.png", scan), *parsed({"a": "A text."})]
    blind = survey_of(runtime, corpus, None)
    assert (blind.new, blind.rejected["needs_vision"], blind.pictures.documents) == (1, 1, 1)
    seeing = survey_of(runtime, corpus, None, image_tier="economy")
    assert (seeing.new, seeing.rejected.total(), seeing.pictures.documents) == (2, 0, 1)
    assert seeing.tokens.count == 1


def test_what_failed_in_the_job_to_take_up_is_not_asked_again(
    runtime: Runtime, vendor_server: VendorServer
) -> None:
    vendor_server.add_fault(text="no JSON", contains="number 3", times=2)
    job = make_job(runtime, TEXTS)
    run(runtime, job.id)
    survey = survey_of(runtime, parsed({**TEXTS, **MORE}), job)
    assert (survey.reused, survey.ended, survey.new) == (9, 1, 20)


def test_books_are_read_without_opening_an_account(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS, max_cost_nusd=10**9)
    run(runtime, job.id)
    with runtime.store.write() as connection:
        runtime.ledger.set_cap(connection, "tier:economy", 2 * 10**9)
        runtime.ledger.set_cap(connection, "provider:openai", 3 * 10**9)
        runtime.ledger.set_cap(connection, "task:elsewhere", 1)
    with runtime.store.read() as connection:
        books = read_books(runtime.store, connection, runtime.ledger, "UTC", None, 5)
        scopes = [balance.account.scope for balance in books.covering("economy", ["openai"], TASK.name)]
        assert scopes == ["day", "provider:openai", "tier:economy", "job:new"]
        day = next(balance for balance in books.balances if balance.account.scope == "day")
        assert day.spent_nusd == spent(runtime)
        assert read_books(runtime.store, connection, runtime.ledger, "UTC", None, None).day == books.day
        assert runtime.ledger.balances(connection, [Account("job:new", "")]) == []


def test_an_estimate_is_kept_with_its_job(runtime: Runtime) -> None:
    job = make_job(runtime, TEXTS)
    assert Estimate.of_job(job) is None
    with runtime.store.write() as connection:
        price = price_left(connection, job, runtime.catalog, runtime.is_usable)
        made = Estimate.of(price, 1_000, 5.0)
        set_estimate(connection, job.id, made.to_json())
        kept = Estimate.of_job(get_job(connection, job.id))
    assert kept == made
    assert made.likely_nusd == price.likely_nusd + 1_000
    assert made.error(2 * made.likely_nusd) == 1
    assert Estimate(0, 0, 0, 1, 5.0).error(7) is None
