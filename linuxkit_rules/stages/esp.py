"""What boot loaders are told: configurations of systemd-boot and isolinux, and the files of an EFI partition.

The Boot Loader Specification (https://uapi-group.org/specifications/specs/boot_loader_specification/),
loader.conf(5); for isolinux, syslinux's doc/syslinux.txt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from linuxkit_rules.errors import ImageError, SpecError
from linuxkit_rules.formats.entry import Entry, Slice
from linuxkit_rules.formats.fat import File

KERNEL = "kernel"
INITRD = "initrd.img"

_LONGEST = 2047  # COMMAND_LINE_SIZE of Linux on x86, without its NUL
_LOADERS = {
    "amd64": ("usr/lib/systemd/boot/efi/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"),
    "arm64": ("usr/lib/systemd/boot/efi/systemd-bootaa64.efi", "EFI/BOOT/BOOTAA64.EFI"),
}
_LARGE = 300 << 20  # bytes: more than 65,525 clusters of 4,096, from which on a volume is FAT32
_LOADER_CONF = b"default linuxkit.conf\ntimeout 0\nauto-entries no\nauto-firmware no\n"


def cluster_for(files: Iterable[File]) -> int:
    """Give the size of an EFI partition's clusters, in bytes; 4,096 for large ones, which halves their FATs.

    Those are FAT32 either way; of smaller ones more would be FAT12, which not every firmware reads.
    """
    return 4096 if sum(file.size for file in files) >= _LARGE else 2048


def check_cmdline(cmdline: str) -> str:
    """Give the command line, its ends trimmed; raise SpecError where a boot loader could not pass it on."""
    text = cmdline.strip()
    if any(ord(char) < 32 for char in text):
        raise SpecError("a boot loader's configuration holds the kernel's command line on one line only")
    if len(text.encode()) > _LONGEST:
        raise SpecError(f"the kernel's command line is longer than {_LONGEST} bytes")
    return text


def esp_files(tools: Mapping[str, Entry], arch: str, title: str, cmdline: str) -> tuple[File, ...]:
    """Give what an EFI system partition needs besides ``payload`` to boot it by systemd-boot.

    ``tools`` is the file tree of the boot loader's image; ``arch`` is amd64 or arm64, else SpecError.
    """
    if arch not in _LOADERS:
        raise SpecError(f"there is no EFI boot loader for {arch}", hint=f"one of {', '.join(_LOADERS)}")
    source, target = _LOADERS[arch]
    return (
        File(target, (tool(tools, source),)),
        File("loader/loader.conf", (_LOADER_CONF,)),
        File("loader/entries/linuxkit.conf", (_entry(title, cmdline),)),
    )


def _entry(title: str, cmdline: str) -> bytes:
    """Give the one entry; systemd-boot takes quotes around a value away, so a quoted one gets others."""
    options = f'"{cmdline}"' if cmdline[:1] == '"' == cmdline[-1:] else cmdline
    lines = [f"title {' '.join(title.split())}", f"linux /{KERNEL}", f"initrd /{INITRD}"]
    lines += [f"options {options}"] if options else []
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def payload(kernel: Slice, initrd: Sequence[Slice]) -> tuple[File, ...]:
    """Give the files of kernel and initrd."""
    return File(KERNEL, (kernel,)), File(INITRD, tuple(initrd))


def isolinux_cfg(cmdline: str) -> bytes:
    """Give isolinux's configuration: boot at once, without asking."""
    append = f"    APPEND {cmdline}\n" if cmdline else ""
    text = f"DEFAULT linux\nPROMPT 0\nLABEL linux\n    LINUX /{KERNEL}\n    INITRD /{INITRD}\n{append}"
    return text.encode()


def tool(tools: Mapping[str, Entry], path: str) -> bytes | Slice:
    """Give the content of a boot loader's file; raise ImageError where its image has none."""
    try:
        return tools[path].content
    except KeyError:
        raise ImageError("the boot loader's image lacks a file", where=path) from None
