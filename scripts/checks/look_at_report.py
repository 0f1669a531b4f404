"""Opens a report in headless Chromium, as a phone and as a desktop: `python scripts/checks/look_at_report.py --out looks`.

Needs `pip install playwright axe-playwright-python` and a Chromium (`--chromium`, default: what is on the path). It makes
a report of shipped digits unless it is given one, writes a screenshot for each width, and checks that nothing is cut off,
that nothing is asked of the network, that slider, order and values answer the pointer and the keys, and what axe finds.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile

WIDTHS = {"phone": (390, 844), "desktop": (1400, 900)}
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
_CUT_OFF = """() => {
  const wide = document.documentElement.scrollWidth > window.innerWidth;
  const out = [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    const beyond = box.right > window.innerWidth + 1 || box.left < -1;
    return box.width && (beyond || element.scrollWidth > element.clientWidth + 1 && element.matches(".scroll"));
  });
  return [wide, out.map((element) => element.tagName + " " + element.className)];
}"""


def digits_report(folder):
    """A report of digits, with curves and a table."""
    from PIL import Image

    from innvest_lite.cli import main
    from innvest_lite.data import load_digits, load_model

    load_model().save(folder / "digits.keras")
    (folder / "photos").mkdir()
    for place, digit in enumerate(load_digits()[0][:12, ..., 0]):
        Image.fromarray((digit * 255).astype("uint8")).save(folder / "photos" / f"a digit with a long name {place:02d}.png")
    path = folder / "report.html"
    options = ["--preprocess", "unit", "--degradation", "--patch", "4", "--steps", "20", "--signal"]
    code = main(["report", str(folder / "digits.keras"), str(folder / "photos"), "-o", str(path), *options])
    if code:
        sys.exit(code)
    return path


def look(browser, path, size, screenshot):
    """What is wrong at one size, a list of texts."""
    from axe_playwright_python.sync_playwright import Axe

    wrong, asked = [], []
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on("console", lambda message: message.type == "error" and wrong.append(f"console: {message.text}"))
    page.goto(path.resolve().as_uri())
    wide, out = page.evaluate(_CUT_OFF)
    wrong += ["wider than the window"] * wide + [f"cut off: {element}" for element in out]
    wrong += [f"asked for {url[:80]}" for url in asked if not url.startswith(("file:", "data:"))]
    page.screenshot(path=screenshot, full_page=True)
    wrong += _answers(page)
    for violation in Axe().run(page).response["violations"]:
        wrong.append(f"axe, {violation['impact']}: {violation['id']}: {violation['help']}")
    page.close()
    return wrong


def _answers(page):
    """Whether the controls do what they say."""
    if not page.locator(".stack").count():
        return _filters(page)
    wrong = []
    stack, output = page.locator(".stack[data-values]").first, page.locator("figure output").first
    stack.hover(position={"x": 20, "y": 20})
    by_pointer = output.inner_text()
    stack.focus()
    page.keyboard.press("ArrowRight")
    by_key = output.inner_text()
    wrong += [] if " at " in by_pointer and " at " in by_key and by_pointer != by_key else ["values do not answer"]
    slider = page.locator("#overlay")
    slider.focus()
    page.keyboard.press("Home")
    opacity = page.locator(".stack img").first.evaluate("element => getComputedStyle(element).opacity")
    wrong += [] if float(opacity) == 0 else [f"the slider at 0 leaves the opacity {opacity}"]
    page.keyboard.press("End")
    page.locator("#order").select_option("least")
    shares = page.locator(".sample").evaluate_all("all => all.map((one) => +one.dataset.confidence)")
    wrong += [] if shares == sorted(shares) else ["samples are not sorted"]
    return wrong + _filters(page)


def _filters(page):
    """Whether wrong and right predictions can be shown alone, on pages that know which are which."""
    if not page.locator("#show").count():
        return []
    page.locator("#show").select_option("wrong")
    shown = page.locator(".sample:visible").evaluate_all("all => all.map((one) => one.dataset.judged)")
    counted = page.locator("#count").inner_text()
    page.locator("#show").select_option("all")
    good = set(shown) <= {"wrong"} and counted.startswith(f"{len(shown)} of ")
    return [] if good else [f"the filter shows {shown} and says {counted!r}"]


def main():
    """The command line; the exit code says whether something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=pathlib.Path, nargs="?", help="default: one of digits, made here")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("looks"))
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = options.report or digits_report(pathlib.Path(folder))
        browser = playwright.chromium.launch(executable_path=options.chromium, args=list(_FLAGS))
        found = {name: look(browser, path, size, options.out / f"{name}.png") for name, size in WIDTHS.items()}
        browser.close()
    for name, wrong in found.items():
        print(f"{name}: {'nothing wrong' if not wrong else ''}", *wrong, sep="\n  ")
    return any(found.values())


if __name__ == "__main__":
    sys.exit(main())
