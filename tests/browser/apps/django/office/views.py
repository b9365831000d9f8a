"""Pages, forms and files of a site whose visitors log in."""

from hashlib import sha256

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from .models import Document


@login_required
def documents(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return render(request, "office/documents.html", {"documents": Document.objects.all()})


@login_required
@require_POST
def upload(request):
    file = request.FILES["file"]
    digest = sha256(b"".join(file.chunks())).hexdigest()
    Document.objects.create(title=request.POST["title"], file=file)
    messages.success(request, f"{file.name}: {file.size} bytes, {digest}")
    return HttpResponseRedirect(request.build_absolute_uri("/"))


@login_required
def download(request, key):
    return FileResponse(get_object_or_404(Document, pk=key).file, as_attachment=True)


@login_required
@require_POST
def preview(request):
    return render(request, "office/preview.html", {"text": request.POST["text"]})


@login_required
@require_POST
def send(request):
    """To be sent again as it is, elsewhere."""
    answer = HttpResponse(status=307)
    answer["Location"] = request.build_absolute_uri("/preview")
    return answer


def report(request):
    """A page in pieces, which end within tags, within a letter and within a comment."""
    page = (
        '<!DOCTYPE html><html><head><meta charset="utf-8"><!-- a > b --><title>Bericht für '
        '„Ämter“</title></head><body data-a="1 > 0"><h1>Größe</h1>'
        + "".join(f'<p class="row" data-row="{row}">Zeile {row} – fünf</p>' for row in range(40))
        + "</body></html>"
    ).encode()
    return StreamingHttpResponse(page[at : at + 7] for at in range(0, len(page), 7))


def in_charset(request, charset):
    """A page that names its charset in itself only."""
    text = {"iso-8859-1": "Café crème", "shift_jis": "日本語のページ", "windows-1251": "Страница"}[charset]
    page = (
        f"<!DOCTYPE html><html><head><title>{text}</title><meta charset={charset}></head>"
        f"<body><h1>{text}</h1></body></html>"
    )
    return HttpResponse(page.encode(charset), content_type="text/html")


def nothing(request):
    return HttpResponse(status=204)
