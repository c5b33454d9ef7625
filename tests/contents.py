"""What stages give, whole: the bytes of a blob, or of all the pieces that it lists."""

import tempfile

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.pieces import write_out


def whole(store: Store, blob: Descriptor) -> bytes:
    with tempfile.TemporaryFile() as out:
        write_out(store, blob, out)
        out.seek(0)
        return out.read()
