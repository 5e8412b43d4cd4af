"""An export as a streamed answer; the console's pages give the same one."""

from __future__ import annotations

from django.http import StreamingHttpResponse

from serving.export import Export


def download_of(export: Export) -> StreamingHttpResponse:
    """Answer with the file.

    ``Signalbox-Next-Since`` says where to go on, if it is not all that was asked for; ``Signalbox-Masked`` how many columns are masked, if any.
    """
    headers = {"Content-Disposition": f'attachment; filename="{export.file_name}"', "Cache-Control": "no-store"}
    if export.next_since is not None:
        headers["Signalbox-Next-Since"] = export.next_since.isoformat()
    if export.masked:
        headers["Signalbox-Masked"] = str(len(export.masked))
    return StreamingHttpResponse(export.content, content_type=export.media_type, headers=headers)
