import socket
import threading

from handlers.types import Usage
from openai_compat.protocol import Done, Hello, Progress, decode_status, encode_status
from openai_compat.worker.status import Ledger, ProgressReport, StatusLine


def test_lines_of_many_threads_arrive_whole(tmp_path):
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        line = StatusLine(path)
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as lines, line._socket:
            threads = [threading.Thread(target=lambda: [line.send(Done("x" * 5000)) for _ in range(50)]) for _ in range(4)]
            for thread in threads:
                thread.start()
            seen = [decode_status(lines.readline()) for _ in range(200)]
            for thread in threads:
                thread.join()
            assert seen == [Done("x" * 5000)] * 200
            line.send(Hello("w", "t", 1))
            assert decode_status(lines.readline()) == Hello("w", "t", 1)


def test_progress_is_sent_for_each_stage_and_each_end_but_not_for_each_byte():
    sent = []
    report = ProgressReport(sent.append, seconds=3600)
    for done in range(1001):
        report("weights", done, 1000)
    report("tokenizer")
    report("tokenizer")
    assert sent == [Progress("weights", 0, 1000), Progress("weights", 1000, 1000), Progress("tokenizer")]


def test_progress_goes_on_when_its_time_has_come():
    sent = []
    report = ProgressReport(sent.append, seconds=0)
    for done in range(3):
        report("weights", done, 1000)
    assert len(sent) == 3


class Books:
    def __init__(self) -> None:
        self.sent: list[Done] = []
        self.running: tuple[str, ...] = ()
        self.ledger = Ledger(self.sent.append)
        self.ledger.active = lambda: self.running


def test_a_request_is_done_when_answer_and_job_have_ended_whichever_is_last():
    for last in ("answer", "job"):
        books = Books()
        books.ledger.entered("a")
        books.running = ("a",)
        if last == "job":
            books.ledger.left("a")
        assert books.sent == []
        assert books.ledger.open == ("a",)
        books.running = ()
        books.ledger.settle("a")
        if last == "answer":
            assert books.sent == []
            books.ledger.left("a")
        assert books.sent == [Done("a")]
        assert books.ledger.open == ()


def test_a_request_without_a_job_is_done_with_its_answer():
    books = Books()
    books.ledger.entered("a")
    books.ledger.left("a")
    assert books.sent == [Done("a")]


def test_a_job_without_a_request_leaves_no_trace():
    books = Books()
    books.ledger.settle("self-test")
    assert books.sent == []
    assert books.ledger.open == ()


def test_what_the_jobs_of_a_request_took_is_told_with_its_end_and_with_no_others():
    books = Books()
    books.ledger.entered("a")
    books.ledger.entered("b")
    books.ledger.spend("a", Usage(prompt_tokens=3, completion_tokens=5, cached_tokens=2))
    books.ledger.spend("a", Usage(prompt_tokens=10, completion_tokens=1))
    books.ledger.left("b")
    books.ledger.left("a")
    books.ledger.entered("a")
    books.ledger.left("a")
    assert books.sent == [Done("b"), Done("a", prompt=13, completion=6, cached=2), Done("a")]


def test_a_done_of_an_earlier_worker_is_read_as_one_that_counted_nothing():
    assert decode_status(b'{"type":"done","request_id":"a"}\n') == Done("a", prompt=0, completion=0, cached=0)
    assert encode_status(Done("a")) == b'{"type":"done","request_id":"a"}\n'
