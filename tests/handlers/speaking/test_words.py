# ruff: noqa: RUF001
import pytest

from handlers.speaking.words import spoken_words


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It is 10:30 now.", "It is 10 30 now."),
        ("It is 7:05.", "It is 7 oh 5."),
        ("It is 9:00.", "It is 9 o'clock."),
        ("It is 9:00 am.", "It is 9 am."),
        ("They won 3:1.", "They won 3 to 1."),
        ("It is 20°C.", "It is 20 degrees Celsius."),
        ("He ran 5km in 20 min.", "He ran 5 kilometers in 20 minutes."),
        ("At 50 km/h.", "At 50 kilometers per hour."),
        ("Add 1/2 cup.", "Add 1 half cup."),
        ("Add 2 3/4 cups.", "Add 2 and 3 quarters cups."),
        ("That is 7/16.", "That is 7 over 16."),
        ("It is 5-10 people.", "It is 5 to 10 people."),
        ("From 1990–1995.", "From 1990 to 1995."),
        ("Call 555-1234.", "Call 555-1234."),
        ("See No. 5 and #7.", "See number 5 and number 7."),
        ("St. Peter lives in Main St.", "Saint Peter lives in Main Street."),
        ("Write to me@a.com.", "Write to me at a dot com."),
        ("See https://www.example.com/x-y.", "See example dot com slash x y."),
        ("5 < 6 = 6 > 4", "5 is less than 6 equals 6 is greater than 4"),
        ("naïve café", "naive cafe"),
        ("Straße in Łódź", "Strasse in Lodz"),
        ("the word 日本 here", "the word here"),
        ("In the 1990s, the 1st and 22nd.", "In the 1990s, the 1st and 22nd."),
        ("Ring 1234567890123456.", "Ring 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6."),
        ("*bold* and `code`", "bold and code"),
        ("It's Joe’s “dog”", "It's Joe's \"dog\""),
        ("x², CO₂", "x squared, CO2"),
        ("¼ cup", "1 quarter cup"),
        ("It costs $3.50.", "It costs $3.50."),
    ],
)
def test_what_is_written_becomes_what_is_said(written, spoken):
    assert spoken_words(written) == spoken
