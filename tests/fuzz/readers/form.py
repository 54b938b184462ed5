"""``multipart/form-data``: a form, or a refusal in our words, and never two forms of one body, however it was cut."""

from __future__ import annotations

from openai_compat.errors import InvalidRequest
from openai_compat.http.form import MAX_FIELDS, MAX_PARTS, Form, FormReader


def fuzz(data: bytes) -> None:
    """The first line is the content type, after a byte that is how long the pieces are; the rest is the body."""
    size = 1 + (data[0] if data else 0)
    head, _, body = data[1:].partition(b"\n")
    kind = head.decode("latin-1")
    cut = read(kind, [body[at : at + size] for at in range(0, len(body), size)])
    whole = read(kind, [body])
    # Some line ends that no form may have are seen in some pieces only.
    assert cut == whole or cut is None or whole is None
    for form in (cut, whole):
        if form is not None:
            check(form, len(body))


def read(kind: str, pieces: list[bytes]) -> Form | None:
    """None for one that is refused."""
    try:
        reader = FormReader(kind, keep_files=True)
        for piece in pieces:
            reader.feed(piece)
        return reader.finish()
    except InvalidRequest:
        return None


def check(form: Form, size: int) -> None:
    uploads = [upload for several in form.files.values() for upload in several]
    fields = [text for several in form.fields.values() for text in several]
    assert len(uploads) + len(fields) <= MAX_PARTS
    assert all(upload.size == len(upload.data) for upload in uploads)
    taken = sum(len(text.encode()) for text in fields)
    assert taken <= MAX_FIELDS
    assert taken + sum(upload.size for upload in uploads) <= size
