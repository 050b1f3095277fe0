"""`python -m tests.corpus.write`: write the corpus's files anew."""

import json
from collections.abc import Callable, Iterable, Mapping

from tests.corpus.case import FOLDER, Case, to_json
from tests.corpus.write import benign, documents, headers, http, members

Topic = Callable[[], Iterable[Case]]
FILES: Mapping[str, Topic] = {
    "hostile-duplicate-keys": members.duplicate_keys,
    "hostile-key-case": members.key_case,
    "hostile-types": members.types,
    "hostile-names": members.names,
    "hostile-decoys": members.decoys,
    "hostile-encodings": documents.encodings,
    "hostile-documents": documents.documents,
    "hostile-numbers": documents.numbers,
    "hostile-depths": documents.depths,
    "hostile-batches": documents.batches,
    "hostile-media-types": documents.media_types,
    "hostile-headers-twice": headers.twice,
    "hostile-eras": headers.eras,
    "hostile-mirrors": headers.mirrors,
    "hostile-identities": headers.identities,
    "hostile-framing": http.framing,
    "hostile-methods": http.methods,
    "hostile-paths": http.paths,
    "benign-messages": benign.messages,
    "benign-requests": benign.requests,
}


def render(topic: Topic) -> str:
    """The file's text: one case after the other, ASCII."""
    return json.dumps([to_json(case) for case in topic()], indent=1) + "\n"


if __name__ == "__main__":
    for name, topic in FILES.items():
        (FOLDER / f"{name}.json").write_text(render(topic))
