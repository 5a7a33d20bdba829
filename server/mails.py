"""What stands in a mail: from the catalogue's words to text and HTML, in one language."""

from html import escape

from server import texts
from server.integrations.email import Mail

# In a letter, a paragraph of its own: the link as text, a button in HTML.
LINK = "{link}"

# Styles stand at the elements: most mail programs read nothing else.
_PAGE = """<!doctype html>
<html lang="{locale}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title></head>
<body style="margin:0;padding:24px;background:#f7f9f8;color:#1c2421;font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif">
<div style="max-width:32rem;margin:0 auto;padding:24px;background:#fff;border:1px solid #e2e8e5;border-radius:12px">
{paragraphs}
</div>
</body>
</html>
"""
_PARAGRAPH = '<p style="margin:0 0 16px">{text}</p>'
_BUTTON = (
    '<p style="margin:0 0 16px"><a href="{link}" style="display:inline-block;padding:12px 20px;border-radius:8px;'
    'background:#0b6b4f;color:#fff;text-decoration:none;font-weight:600">{text}</a></p>'
)


def write(letter: str, locale: str, *, id: str, to: str, link: str) -> Mail:  # noqa: A002 - the mail's own
    """Return a letter of the catalogue (`texts.MAILS`), ready to be sent.

    It says nothing that somebody has written: whoever registers with a stranger's address would write to them by us.

    Args:
        letter: Its key.
        locale: The reader's language; English for any that we do not have.
        id: Names the mail at each try.
        to: The address.
        link: Where its button leads.
    """
    found = texts.MAILS[letter].vi if locale == "vi" else texts.MAILS[letter].en
    paragraphs = found.body.split("\n\n")
    return Mail(
        id=id,
        to=to,
        subject=found.subject,
        text="\n\n".join(one.format(link=link) for one in paragraphs) + "\n",
        html=_PAGE.format(
            locale="vi" if locale == "vi" else "en",
            title=escape(found.subject),
            paragraphs="\n".join(
                _BUTTON.format(link=escape(link), text=escape(found.button))
                if one == LINK
                else _PARAGRAPH.format(text=escape(one))
                for one in paragraphs
            ),
        ),
    )
