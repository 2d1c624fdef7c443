"""How a response words an answer, in English and Chinese: the patterns of `benchmarks._parses`.

All work on texts as `_parses.plain` makes them: usual widths, no markdown, single blanks.
"""

import re

MARKUP = re.compile(r"\\(?:boxed|text\w*|math\w*)\s*|</?\w[^<>\n]{0,40}>|<\|\w*\|?>|[*`#~$_{}]|\\[()\[\]]")
LINES, BLANKS = re.compile(r"\s*\n\s*"), re.compile(r"[^\S\n]+")
WORD = re.compile(
    r"(?<!\w)-?\d+(?:[.,:/]\d+)*"  # -3, 3.5 and 12:30 are one word each
    r"|\d+(?:[.,:/]\d+)*|[\u3400-\u9fff]|[^\W\d\u3400-\u9fff]+"  # so is every Chinese character
)

# Bounded, as every repeat here that another could overlap with: a hostile text must not make matching quadratic.
OPEN, CLOSE = r"""[\s(\["'<“‘【「『《]{0,6}+""", r"""[\s)\]"'>”’】」』》]{0,6}+"""
# A letter that is no part of a word, an abbreviation or a name: not e.g., B-52, don't.
ALONE = r"(?<![A-Za-z0-9'’])(?<![A-Za-z0-9]-)(?<![F-Zf-z0-9]/)([A-Ea-e])(?![A-Za-z0-9])(?!['’-]\w)(?!\.[A-Za-z])"
_CUES = (  # what says that the letter behind it is the answer
    r"(?:answer|choice|option|response|letter)s?(?:\s+(?:to|for)\s[^.:\n]{0,60}?)?"
    r"(?:\s+(?:is|would be|should be|must be|will be|to be))?"
    r"\s*[:=\-–—]?\s*(?:(?:the\s+)?(?:option|choice|letter)\s*)?",
    r"\b(?:choose|chose|select(?:ed)?|pick(?:ed)?|go(?:ing)? with|opt for)\s+(?:(?:option|choice|answer|letter)\s*)?",
    r"(?:答案|选项|选择|[应该故我]?选|回答)"
    r"(?:应该是|应该为|应为|应是|应当是|就是|是|为|即|选项|选择|选|[:=\s]){0,5}+",
)
STATED = tuple(re.compile(cue + OPEN + ALONE, re.IGNORECASE) for cue in _CUES)
RIGHT = re.compile(
    ALONE + CLOSE + r"(?:选项|项)?\s*(?:is|是|为|most likely|looks?|seems?|[:,]){0,2}\s*(?:the\s+)?"
    r"(?:correct|right|best|true|answer\b|正确|对的|答案)",
    re.IGNORECASE,
)
LEADING = re.compile(
    r"\W*" + ALONE + CLOSE + r"(?:$|[.,:;!?、。\-–—\n]|选项|项|(?:because|since|as it)\b)", re.IGNORECASE
)
LISTED = re.compile(r"(?m)^[^\w\n]*([A-E])\s*[.):、]")  # a line that lists an option
MORE = re.compile(  # another letter beside one
    CLOSE + r"[.]?\s*(?:[/,;&+、|]|\b(?:or|and)\b|或者?|和|与|及|以及)\s*"
    r"(?:(?:also|maybe|possibly|option|选项)\s*)?" + OPEN + ALONE
)
ARTICLE = re.compile(r"[^\S\n]+(?!because|since|as |is |and |or |with |for |due )[a-z]", re.IGNORECASE)  # behind an A
DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bneither|\bnor|\bcannot|\bno|\bexcept|\bwithout|instead of|rather than|rules? out)\s+"
    r"(?:(?:the|an?|any|be|option|choice|answer|letter|choose|select|pick|correct|right)\s+)*" + OPEN + r"$"
    r"|(?:不是|并非|不选|不应选|不会是|不可能是|而非|[不非没无别])" + OPEN + r"$",
    re.IGNORECASE,
)
DENIED_AFTER = re.compile(
    CLOSE + r"(?:选项|项|option)?\s*(?:(?:is|was|are|can|does|would be|seems?|looks?)\s*)?"
    r"(?:not\b|n['’]t\b|cannot\b|wrong|incorrect|false\b|ruled out"
    r"|不对|不正确|不是|不符|错|有误)",
    re.IGNORECASE,
)
DENYING = re.compile(  # ends what stands before a word, word by word
    r"(?:^| )(?:not|no|never|without|neither|nor|cannot|\w*n t|不 是|并 非|没 有|[不非没无])$"
)

_YES = r"yes|yeah|yep|yup|是的|对的|有的|没错|不错|是|对|有|存在|正确"
_NO = (
    r"no|nope|nah|不是的?|不对|不存在|不正确|不在|没有|并没有|并非|并不|否定?"
    r"|不(?!错)|没(?!错)|无|错误"
)
LEAD = re.compile(
    r"\W*(?:(?:my |the )?(?:final |correct )?(?:answer|response)(?: is)?\W*"
    r"|(?:正确)?答案(?:应该)?(?:是|为)?(?=\W*\w)\W*|回答\W*)?"
    rf"(?:(?P<no>{_NO})|(?P<yes>{_YES}))(?:(?<=[a-z])(?![a-z])|(?<![a-z]))",
    re.IGNORECASE,
)
WHETHER = re.compile(r"是否|是不是|有没有|有无|对不对|yes[\s-]*no question|whether", re.IGNORECASE)
HEDGE = re.compile(
    r"\b(?:no idea|no way (?:to|of)|not (?:sure|certain|clear|possible|enough|able)"
    r"|unsure|uncertain|unclear|unknown|unable|don['’]?t know|do not know"
    r"|(?:can|could)(?:not|n['’]?t| not)(?: \w+)? (?:tell|say|determine|answer|be determined)"
    r"|hard to|difficult to|impossible to|maybe|perhaps|possibly|it depends|neither)\b"
    r"|无法|不确定|不知道|不清楚|难以|可能|也许|或许",
    re.IGNORECASE,
)
BOTH = re.compile(  # the other answer beside the first and nothing else
    r"\s*(?:[/,&|]|\b(?:or|and)\b|或者?|和)?\s*(?:(?P<no>no|否|不是)|(?P<yes>yes|是))\W*$", re.IGNORECASE
)
EITHER = re.compile(
    r"\b(?:yes\s*(?:[/&|]|or|and)\s*no|no\s*(?:[/&|]|or|and)\s*yes)\b"
    r"|是\s*(?:[/&|]|或者?|和)\s*(?:否|不是)",
    re.IGNORECASE,
)
NEGATION = re.compile(
    r"\b(?:no|not|none|nothing|cannot|absent|without)\b|\b\w+n['’]t\b"
    r"|没有|没看到|看不到|不是|不存在|并无|并不|未见",
    re.IGNORECASE,
)
AFFIRMED = re.compile(r"\W*there (?:is|are)\b|\W*(?:图|照片|画面)[^。,]{0,6}有|.*(?:是的?|对的)\W*$", re.IGNORECASE)
