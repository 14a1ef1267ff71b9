import BackupService
import Daemon
import Foundation
import JobCore
import Provisioning
import ScriptService
import Testing

@testable import prov_backup_rsnapshot

/// A setting that is documented and that nothing reads is an error: for each key, code must read the property that the key declares, of the type
/// that has it. Properties of the same name in other types do not count.
@Suite struct SettingsUseTests {
    private let uses: PropertyUses

    init() throws { uses = try PropertyUses(in: DaemonHarness.checkout.appending(path: "Sources")) }

    @Test("code reads the property of every key")
    func everyKeyIsRead() {
        var titles = [
            check(GlobalSettings.self), check(OperationModeSettings.self), check(Mailer.Configuration.self),
            check(DatabaseSettings.self), check(AttributeNames.self), check(ServiceSettings.self),
            check(BackupConfiguration.self), check(Pool.self), check(ScriptServiceConfiguration.self),
            check(ScriptsSettings.self), check(JobPolicy.self), check(UserScript.self),
            check(BackupJobsConfiguration.self), check(HistorySettings.self),
        ]
        // Its keys are the elements of one property, which `SettingsJobsTests` reads by a profile.
        titles.insert(ExitSettings.section.title, at: 12)
        #expect(titles == SettingsSchema.daemon.sections.filter { $0.replacement == nil }.map(\.name.title))
    }

    @Test("reading a property is a use of it; setting it, passing it on and the same name in another type are none")
    func examples() {
        let section = """
            struct Limits {
                var window = 1
                static let keys = [Setting("WINDOW", \\.window, .number)]
            }
            """
        func isUsed(_ line: String) -> Bool {
            PropertyUses(files: [("Core", section), ("Core", line)]).isRead("window", of: "Limits")
        }
        for line in [
            "func f(limits: Limits) { open(limits.window) }", "extension Limits { var half: Int { window / 2 } }",
            "let limits = Limits()\nprint(\"\\(limits.window)\")",
        ] {
            #expect(isUsed(line), "\(line)")
        }
        for line in [
            "func f(limits: Limits) { limits.window = 2 }", "func f(limits: Limits) { g(window: limits.window) }",
            "func f(other: Other) { open(other.window) }", "// limits.window",
            "f(\\Self.limits.window, \\.limits.window)",
            "extension Limits { static let text = \"the window\" }",
            "extension Limits { init(window: Int) { self.window = window } }",
        ] {
            #expect(!isUsed(line), "\(line)")
        }
        #expect(
            isUsed("func f(limits: Limits) { g(window: limits.window) }\nfunc g(window: Int) { open(window) }"),
            "what is passed on under its name is used where that name is read")
    }

    /// - Returns: the section's title.
    private func check<Section: SettingsSection>(_ section: Section.Type) -> String {
        for key in Section.keys {
            guard let property = key.property else { continue }
            // `\Section.retry.delay`; elements of a dictionary end in `<computed …>`.
            let path = "\(property)".split(separator: ".").dropFirst().prefix { !$0.hasPrefix("<") }.map(String.init)
            #expect(!path.isEmpty, "\(key.declaration.name)")
            var owner: Any = Section()
            for name in path {
                let type = "\(type(of: owner))"
                let isRead = uses.isRead(name, of: type)
                #expect(isRead, "[\(Section.section)] \(key.declaration.name): nothing reads \(name) of \(type)")
                guard let value = Mirror(reflecting: owner).children.first(where: { $0.label == name })?.value else {
                    break
                }
                owner = value
            }
        }
        return Section.section.title
    }
}

/// Where names are used in Swift sources, as far as the text shows it.
private struct PropertyUses {
    private struct Word {
        let text: String
        /// The text between the word before and this one.
        let gap: String
        let file: Int
        let line: Int
        /// The innermost type or extension around it, by its last name; types that are not named there are left out.
        let type: String?
        /// Whether a value is assigned to it.
        let isSet: Bool
    }

    /// Those of all files, one after the other.
    private var words: [Word] = []
    /// The module of each file.
    private var modules: [String] = []
    /// By their text.
    private var places: [String: [Int]] = [:]

    init(in sources: URL) throws {
        var files: [(module: String, text: String)] = []
        for path in try FileManager.default.subpathsOfDirectory(atPath: sources.path) where path.hasSuffix(".swift") {
            let module = path.split(separator: "/").first.map(String.init) ?? ""
            files.append((module, try String(contentsOf: sources.appending(path: path), encoding: .utf8)))
        }
        self.init(files: files)
    }

    init(files: [(module: String, text: String)]) {
        for file in files {
            modules.append(file.module)
            read(Array(file.text.utf8))
        }
        for place in words.indices { places[words[place].text, default: []].append(place) }
    }

    func isRead(_ name: String, of type: String) -> Bool {
        let values = values(of: type)
        return places[name, default: []].contains { place in
            isRead(at: place, of: type, values: values) && (!isPassedOn(at: place) || isReadAlone(name))
        }
    }

    private func isRead(at place: Int, of type: String, values: [String: Set<String>]) -> Bool {
        let word = words[place]
        if word.isSet { return false }
        if word.gap.hasSuffix(".") {
            // Not a key path, by which a key declares it.
            let gap = words[head(of: place)].gap
            return !gap.hasSuffix("\\.") && !gap.hasSuffix("\\")
                && (values[modules[word.file], default: []].contains(before(place))
                    || before(place) == "self" && word.type == type)
        }
        return word.type == type && !["var", "let", "func"].contains(before(place)) && !isLabel(at: place)
            && !isStored(at: place)
    }

    /// The first word of a chain such as `settings.limits.window`.
    private func head(of place: Int) -> Int {
        var head = place
        while words[head].gap.hasSuffix("."), !words[head].gap.hasSuffix("\\."), head > 0 { head -= 1 }
        return head
    }

    /// `name: values.name`.
    private func isPassedOn(at place: Int) -> Bool {
        let head = head(of: place)
        return before(head) == words[place].text && words[head].gap.hasPrefix(":")
    }

    /// Whether any code reads the name as a parameter, a variable or a property, and does not only pass it on.
    private func isReadAlone(_ name: String) -> Bool {
        places[name, default: []].contains { place in
            !words[place].isSet && !words[place].gap.hasSuffix("\\.")
                && !["var", "let", "func", "case"].contains(before(place)) && !isLabel(at: place)
                && !isPassedOn(at: place) && !isStored(at: place)
        }
    }

    /// `self.name = name`.
    private func isStored(at place: Int) -> Bool { before(place) == words[place].text && words[place - 1].isSet }

    private func before(_ place: Int) -> String {
        place > 0 && words[place - 1].file == words[place].file ? words[place - 1].text : ""
    }

    private func isLabel(at place: Int) -> Bool {
        place + 1 < words.count && words[place + 1].file == words[place].file && words[place + 1].gap.hasPrefix(":")
    }

    /// For each module, the names of variables, properties and parameters of a type: those that a line declares before it names the type.
    private func values(of type: String) -> [String: Set<String>] {
        var values: [String: Set<String>] = [:]
        for place in places[type, default: []] {
            var other = place - 1
            while other >= 0, words[other].file == words[place].file, words[other].line == words[place].line {
                if isLabel(at: other) || ["var", "let"].contains(before(other)) {
                    values[modules[words[place].file], default: []].insert(words[other].text)
                }
                other -= 1
            }
        }
        return values
    }

    private mutating func read(_ bytes: [UInt8]) {
        let file = modules.count - 1
        var types: [String?] = []
        var (line, isQuoted, gap, opening) = (1, false, 0, String?.none)
        // The open parentheses of each interpolation that is under way.
        var interpolations: [Int] = []
        var place = 0
        func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }
        while place < bytes.count {
            if isQuoted, bytes[place] == UInt8(ascii: "\\") {
                if bytes[(place + 1)...].first == UInt8(ascii: "(") {
                    interpolations.append(0)
                    isQuoted = false
                }
                place += 2
                continue
            }
            // Text is no code.
            if !isQuoted, Self.isWordByte(bytes[place]) {
                let end = bytes[place...].firstIndex { !Self.isWordByte($0) } ?? bytes.count
                let next = bytes[end...].firstIndex { $0 != UInt8(ascii: " ") } ?? bytes.count
                words.append(
                    Word(
                        text: text(place..<end), gap: text(gap..<place), file: file, line: line,
                        type: types.last { $0 != nil } ?? nil, isSet: bytes[next...].starts(with: Array("= ".utf8))))
                let isName = ["struct", "class", "actor", "enum", "extension"].contains(before(words.count - 1))
                // `extension Mailer.Configuration`
                let isNested = opening != nil && words[words.count - 1].gap == "." && before(words.count - 1) == opening
                if isName || isNested { opening = words[words.count - 1].text }
                (place, gap) = (end, end)
                continue
            }
            switch bytes[place] {
            case UInt8(ascii: "\n"): line += 1
            case UInt8(ascii: "\""): isQuoted.toggle()
            case UInt8(ascii: "/") where !isQuoted && bytes[place...].starts(with: Array("//".utf8)):
                place = bytes[place...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
                gap = place
                continue
            case UInt8(ascii: "(") where !isQuoted && !interpolations.isEmpty:
                interpolations[interpolations.count - 1] += 1
            case UInt8(ascii: ")") where !isQuoted && !interpolations.isEmpty:
                interpolations[interpolations.count - 1] -= 1
                if interpolations[interpolations.count - 1] < 0 {
                    interpolations.removeLast()
                    isQuoted = true
                }
            case UInt8(ascii: "{") where !isQuoted:
                types.append(opening)
                opening = nil
            case UInt8(ascii: "}") where !isQuoted: _ = types.popLast()
            default: break
            }
            place += 1
        }
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), 0x80...:
            true
        default: false
        }
    }
}
