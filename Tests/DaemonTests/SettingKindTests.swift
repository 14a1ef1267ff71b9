import JobCore
import SystemPackage
import Testing

struct SettingKindTests {
    enum Colour: String, CaseIterable, Sendable { case red, darkBlue }

    private func value<Value>(_ kind: SettingKind<Value>, _ text: String) -> Value? {
        do throws(SettingValueError) { return try kind.parse(text) } catch { return nil }
    }

    @Test(arguments: [
        ("1", true), ("yes", true), ("TRUE", true), ("on", true), ("0", false), ("No", false), ("false", false),
        ("off", false),
    ])
    func `a boolean is written in any of four ways`(text: String, expected: Bool) {
        #expect(value(.boolean, text) == expected)
    }

    @Test(arguments: ["", "2", "maybe", "y"])
    func `other text is not a boolean`(text: String) { #expect(value(.boolean, text) == nil) }

    @Test(arguments: [("30", 30), ("30s", 30), ("5m", 300), ("2h", 7_200), ("1d", 86_400), ("0", 0), ("5 M", 300)])
    func `a duration is seconds or a number with a unit`(text: String, seconds: Int) {
        #expect(value(.duration(), text) == .seconds(seconds))
    }

    @Test(arguments: ["", "s", "-1", "1.5h", "5w", "1h30m", "99999999999999999999", "9223372036854775807d", "+5", "٣"])
    func `other text is not a duration`(text: String) { #expect(value(.duration(), text) == nil) }

    @Test func `a duration outside its range is refused with the bounds`() {
        #expect(throws: SettingValueError("the duration is out of range", hint: "write a duration from 1s to 36525d")) {
            try SettingKind<Duration>.duration(from: .seconds(1)).parse("0")
        }
    }

    @Test(arguments: [
        ("1024", 1_024), ("1K", 1_024), ("10g", 10_737_418_240), ("2T", 2_199_023_255_552), ("3M", 3_145_728),
    ])
    func `a size is bytes or a power of 1024`(text: String, bytes: UInt64) {
        #expect(value(.size, text) == bytes)
    }

    @Test(arguments: ["", "1.5G", "10GB", "-1", "9999999999T"])
    func `other text is not a size`(text: String) { #expect(value(.size, text) == nil) }

    @Test func `a number keeps its range`() {
        #expect(value(.number(1...64), "64") == 64)
        #expect(value(.number(1...64), "0") == nil)
        #expect(value(.number(1...64), "65") == nil)
        #expect(value(.number(1...64), "four") == nil)
    }

    @Test func `a choice is not case-sensitive, and the hint names the nearest`() {
        #expect(value(.choice, "RED") == Colour.red)
        #expect(
            throws: SettingValueError(
                "this is not one of the choices", hint: "write red or darkBlue (did you mean red?)")
        ) {
            try SettingKind<Colour>.choice.parse("rod")
        }
    }

    @Test(arguments: ["relative", "", "/a/../b"])
    func `a path is absolute and does not go up`(text: String) {
        #expect(value(SettingKind<FilePath>.path, text) == nil)
    }

    @Test func `an empty value means none if the kind permits it, otherwise it is an error`() {
        #expect(value(SettingKind<String>.path.orEmpty, "") == .some(.none))
        #expect(value(SettingKind<String>.path.orEmpty, "/a") == "/a")
        #expect(value(SettingKind<String>.path.orEmpty, "a") == nil)
    }

    @Test func `a choice can name any values`() throws {
        let kind = SettingKind<Bool>.choice(["run": true, "skip": false])
        #expect(try kind.parse("Skip") == false)
        #expect(kind.render(true) == "run" && kind.form == "one of run, skip")
    }

    @Test func `lists are split by any blanks and check each word`() {
        #expect(value(.words, " a\t b  c ") == ["a", "b", "c"])
        #expect(value(SettingKind<[FilePath]>.paths, "/a b") == nil)
        #expect(value(.hosts, "backup1.example.org b-2") == ["backup1.example.org", "b-2"])
        #expect(value(.hosts, "-b") == nil)
        #expect(value(.hosts, "a..b") == nil)
        #expect(value(.hosts, "a*") == nil)
    }

    @Test func `a rendered value is parsed to the same value`() {
        for seconds in [0, 1, 59, 60, 90, 3_600, 86_400, 31_536_000] {
            let duration = Duration.seconds(seconds)
            #expect(value(.duration(), SettingKind<Duration>.duration().render(duration)) == duration)
        }
        for bytes: UInt64 in [0, 1, 1_023, 1_024, 10 << 30, 3 << 40] {
            #expect(value(.size, SettingKind<UInt64>.size.render(bytes)) == bytes)
        }
        #expect(SettingKind<UInt64>.size.render(10 << 30) == "10G")
        #expect(SettingKind<Duration>.duration().render(.seconds(90)) == "90s")
    }

    @Test func `the nearest name is only found for typing errors`() {
        let names = ["SERVER", "SEARCH_FILTER", "SERVICE_SUBTREE"]
        #expect(NearestName.of("SEVRER", among: names) == "SERVER")
        #expect(NearestName.of("search-filter", among: names) == "SEARCH_FILTER")
        #expect(NearestName.of("COLOUR", among: names) == nil)
    }
}
