"""How each server looks, everywhere in the report, and the page's style sheet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    css: str
    light: str
    dark: str
    shape: str = "circle"
    dash: str = ""
    width: float = 1.8


LOOKS = {
    "nbdring": Look("s-ring", "#0a5fd0", "#62adff", "circle", width=2.8),
    "nbdring as installed": Look("s-installed", "#0895a8", "#4fd0de", "diamond"),
    "nbdring --spin": Look("s-spin", "#c81e78", "#ff7fbd", "triangle"),
    "nbdkit": Look("s-nbdkit", "#cf6208", "#ff9f4a", "square"),
    "nbdkit -t 1": Look("s-nbdkit1", "#b28a00", "#e3c04a", "square", "6 3"),
    "qemu-nbd": Look("s-qemu", "#23834a", "#5bcf86", "triangle"),
    "nbd-server": Look("s-nbdserver", "#8542bd", "#c596f3", "diamond"),
    "floor": Look("s-floor", "#69717d", "#a2abb8", "cross", "3 3"),
    "fio io_uring": Look("s-fio", "#8b5e4a", "#d3a48f", "cross", "1 4"),
}
OTHER = Look("s-other", "#4b6382", "#8fa8c8")
LIMITS = ("floor", "fio io_uring")


def look(server):
    return LOOKS.get(server, OTHER)


def _variables(mode):
    return "".join(f"--{each.css}:{getattr(each, mode)};" for each in [*LOOKS.values(), OTHER])


def _rules():
    return "\n".join(
        f".{each.css}{{--c:var(--{each.css})}}.{each.css} .line{{stroke-width:{each.width}"
        + (f";stroke-dasharray:{each.dash}" if each.dash else "") + "}"
        for each in [*LOOKS.values(), OTHER])


_PAGE = """
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main,header,nav div{max-width:1400px;margin:0 auto;padding:0 24px}
header{padding-top:34px;padding-bottom:10px}
h1{font-size:30px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:21px;margin:0 0 4px;letter-spacing:-.005em}
p{margin:4px 0 12px;max-width:78ch;color:var(--soft)}
code,pre{font:13px/1.45 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{background:var(--tint);border-radius:4px;padding:1px 5px;color:var(--text)}
nav{position:sticky;top:0;background:var(--ground);border-bottom:1px solid var(--edge);z-index:2}
nav div{display:flex;gap:4px 18px;flex-wrap:wrap;padding-top:9px;padding-bottom:9px}
nav a{color:var(--soft);text-decoration:none;font-size:14px}
nav a:hover{color:var(--text);text-decoration:underline}
section{padding:30px 0 6px;scroll-margin-top:42px}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(215px,1fr));gap:12px;
 margin:16px 0}
.tile{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:12px 16px}
.tile b{display:block;font-size:25px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:13.5px}
.callout{border:1px solid var(--warn-edge);background:var(--warn);border-radius:10px;
 padding:10px 16px;margin:14px 0;max-width:none;color:var(--text)}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:8px 0 12px;font-size:13.5px}
.legend span{display:inline-flex;align-items:center;gap:7px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(390px,1fr));gap:14px;
 align-items:start}
.charts.two{max-width:920px}
figure{margin:0;background:var(--card);border:1px solid var(--edge);border-radius:10px;
 padding:12px 12px 8px}
figcaption{font-weight:600;font-size:14.5px;margin:0 4px 2px}
figcaption small{display:block;font-weight:400;color:var(--soft);font-size:12.5px}
svg{display:block;width:100%;height:auto}
svg.sample,svg.gauge{display:inline-block;width:auto;vertical-align:middle}
.grid{stroke:var(--grid);stroke-width:1}
.axis{stroke:var(--axis);stroke-width:1}
.tick{font-size:11.5px;fill:var(--soft);font-variant-numeric:tabular-nums}
.name{font-size:12px;fill:var(--soft)}
.heading{font-size:12.5px;font-weight:600;fill:var(--text)}
.value{font-size:11.5px;fill:var(--text);font-variant-numeric:tabular-nums}
.line{fill:none;stroke:var(--c);stroke-linejoin:round;stroke-linecap:round}
.mark{fill:var(--c);stroke:var(--c);stroke-width:1.6}
.bar{fill:var(--c)}
.whisker{fill:none;stroke:var(--text);stroke-width:1;opacity:.55}
.limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:5 3}
.gauge .limit{stroke:var(--soft);stroke-dasharray:none}
.limit-text{font-size:11.5px;fill:var(--bad)}
.good-line{stroke:var(--good);stroke-width:4;fill:none}.good-dot{fill:var(--good)}
.bad-line{stroke:var(--bad);stroke-width:4;fill:none}.bad-dot{fill:var(--bad)}
.scroll{overflow-x:auto;margin:8px 0}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
th{color:var(--soft);font-weight:600;font-size:12.5px}
th:first-child,td:first-child,td.left,th.left{text-align:left}
tr.row th{color:var(--text);font-size:13.5px;padding-top:14px;text-align:left}
tr.ours td{background:var(--tint)}
td b{font-weight:700}
.dot{display:inline-block;width:9px;height:9px;border-radius:50%;background:var(--c);
 margin-right:7px}
.pill{display:inline-block;border-radius:20px;padding:1px 10px;font-size:12.5px;font-weight:600}
.pill.good{background:var(--good-ground);color:var(--good)}
.pill.bad{background:var(--bad-ground);color:var(--bad)}
details{margin:12px 0 4px}
summary{cursor:pointer;color:var(--soft);font-size:14px}
footer{max-width:1400px;margin:30px auto;padding:0 24px;color:var(--soft);font-size:13.5px}
@media(max-width:480px){.charts{grid-template-columns:1fr}main,header{padding:0 12px}}
@media print{nav{position:static}figure,.tile{break-inside:avoid}}
"""

_LIGHT = ("--ground:#f6f7f9;--card:#fff;--text:#1a1f27;--soft:#5b6472;--edge:#dfe3e9;"
          "--grid:#e9ecf0;--axis:#98a1ae;--tint:#eef3fb;--good:#1a7f42;--bad:#c42b2b;"
          "--good-ground:#e0f4e7;--bad-ground:#fde7e6;--warn:#fff6df;--warn-edge:#ecd28b;")
_DARK = ("--ground:#12151a;--card:#1a1e25;--text:#e8ebf0;--soft:#a0a9b7;--edge:#2c323c;"
         "--grid:#262c35;--axis:#667080;--tint:#1d2836;--good:#5bd18a;--bad:#ff8078;"
         "--good-ground:#163324;--bad-ground:#3d1e1e;--warn:#332b16;--warn-edge:#6b5a26;")


def sheet():
    return (f":root{{color-scheme:light dark;{_LIGHT}{_variables('light')}}}\n"
            f"@media(prefers-color-scheme:dark){{:root{{{_DARK}{_variables('dark')}}}}}\n"
            f"{_PAGE}{_rules()}\n")
