"""The few pages of the authorization server: plain forms that work without scripts, in both languages."""

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from server.smart.aio.grants import Choice
from server.smart.core.scopes import ACTIONS, Scopes

_STYLE = (
    "body{font:18px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;color:#1a1a1a}"
    "button{font:inherit;padding:.6rem 1.4rem;margin-right:1rem}fieldset{margin:1.5rem 0}label{display:block}"
)
_VERBS = {"c": "新建 create", "r": "读取 read", "u": "修改 change", "d": "删除 delete", "s": "检索 search"}
_WORDS = {
    "openid": "您的身份 who you are",
    "fhirUser": "您的姓名 your name",
    "launch": "当前患者 the open patient",
    "launch/patient": "当前患者 the open patient",
    "online_access": "在您登录期间继续使用 as long as you are signed in",
    "offline_access": "在您退出后继续使用 also after you have signed out",
}
_LEVELS = {"patient": "该患者的 of this patient:", "user": "您的会诊患者的 of the patients of your consults:"}


def _page(title: str, body: str, *, status: int = 200, form_targets: str = "'self'") -> web.Response:
    text = (
        f'<!doctype html><html lang="zh-CN"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><main>{body}</main></html>'
    )
    # Browsers hold the redirect that follows a form to the same rule as the form.
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; "
        f"form-action {form_targets}"
    )
    # Without a referrer a form would be sent with the origin "null", which the guard refuses.
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
    }
    return web.Response(text=text, content_type="text/html", status=status, headers=headers)


def again_page(form: Mapping[str, str]) -> web.Response:
    """Come again from our own page, with the cookie."""
    target = "/smart/authorize?" + urlencode({**form, "again": "1"})
    body = (
        f'<meta http-equiv="refresh" content="0;url={escape(target)}">'
        f'<p><a href="{escape(target)}">继续 Continue</a></p>'
    )
    return _page("Consilium", body)


def sign_in_page(form: Mapping[str, str]) -> web.Response:
    """Sign in first."""
    target = "/smart/authorize?" + urlencode({**form, "again": "1"})
    body = (
        "<h1>请先登录 Please sign in</h1>"
        '<p><a href="/login" target="_blank" rel="noopener">登录 Sign in</a></p>'
        f'<p><a href="{escape(target)}">我已登录，继续 I have signed in</a></p>'
    )
    return _page("Consilium", body, status=401)


def refusal_page() -> web.Response:
    """Nobody to send back to."""
    body = "<h1>无法继续</h1><p>该应用的请求无效。</p><h1>Cannot continue</h1><p>The app's request is not valid.</p>"
    return _page("Consilium", body, status=400)


def consent_page(
    name: str,
    origin: str,
    scopes: Scopes,
    choices: Sequence[Choice],
    names: Mapping[str, str],
    form: Mapping[str, str],
) -> web.Response:
    """What the app asks for, and the two answers."""
    asked = "".join(f"<li>{escape(text)}</li>" for text in _in_words(scopes))
    picks = "".join(
        f'<label><input type="radio" name="consult" value="{escape(one.consult)}"'
        f"{' checked' if len(choices) == 1 else ''} required> {escape(names.get(one.patient, ''))} "
        f"— {escape(one.title)}</label>"
        for one in choices
    )
    hidden = "".join(
        f'<input type="hidden" name="{escape(key)}" value="{escape(value)}">'
        for key, value in form.items()
        if key not in ("decision", "consult")
    )
    patient = f"<fieldset><legend>患者 Patient</legend>{picks}</fieldset>" if choices else ""
    body = (
        f"<h1>{escape(name)}</h1><p>{escape(origin)}</p><p>该应用请求 This app asks for:</p><ul>{asked}</ul>"
        f'<form method="post" action="/smart/authorize">{hidden}{patient}'
        '<button name="decision" value="allow">允许 Allow</button>'
        '<button name="decision" value="deny" formnovalidate>拒绝 Refuse</button></form>'
    )
    return _page(name, body, form_targets=f"'self' {_source(origin)}")


def _source(origin: str) -> str:
    """An origin as a source of a content security policy."""
    parts = urlsplit(origin)
    return f"{parts.scheme}://{parts.netloc}".replace(";", "").replace(",", "").replace(" ", "")


def _in_words(scopes: Scopes) -> list[str]:
    lines = [_WORDS[word] for word in scopes.text.split() if word in _WORDS]
    for one in sorted(scopes.resources, key=str):
        verbs = "、".join(_VERBS[action] for action in ACTIONS if action in one.actions)
        kind = "全部资料 everything" if one.type == "*" else one.type
        lines.append(f"{_LEVELS.get(one.level, one.level)} {kind} ({verbs})")
    if scopes.fhircast:
        lines.append("同步当前患者 follow and change the open patient")
    return lines
