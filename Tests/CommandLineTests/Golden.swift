import Foundation
import TestSupport
import Testing

/// Recorded output of the program, in files below `Golden`. After an intended change this command writes them again:
///
///     PROV_REGENERATE=1 swift test --filter GoldenTests
enum Golden {
    static let isRegenerating = ProcessInfo.processInfo.environment["PROV_REGENERATE"] == "1"

    static func file(_ name: String) -> URL {
        DaemonHarness.checkout.appending(path: "Tests/CommandLineTests/Golden").appending(path: name)
    }

    /// Expects that a text is equal to the file of that name.
    static func expect(_ text: String, in name: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        if isRegenerating {
            try FileManager.default.createDirectory(
                at: file(name).deletingLastPathComponent(), withIntermediateDirectories: true)
            return try Data(text.utf8).write(to: file(name))
        }
        let recorded = (try? String(contentsOf: file(name), encoding: .utf8)) ?? ""
        guard text != recorded else { return }
        let (lines, known) = (text.components(separatedBy: "\n"), recorded.components(separatedBy: "\n"))
        let changes = lines.difference(from: known).prefix(40).map { change in
            switch change {
            case .remove(let line, let text, _): "- \(line + 1): \(text)"
            case .insert(let line, let text, _): "+ \(line + 1): \(text)"
            }
        }
        Issue.record(
            "\(name) differs; if that is intended: PROV_REGENERATE=1 swift test --filter GoldenTests\n\(changes.joined(separator: "\n"))",
            sourceLocation: sourceLocation)
    }
}

/// A JSON value, read and printed in one fixed form.
enum JSON: Hashable, Sendable, Decodable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    /// One value for each line, as the commands print them.
    static func lines(_ text: String) throws -> [JSON] {
        try text.split(separator: "\n").map { try JSONDecoder().decode(JSON.self, from: Data($0.utf8)) }
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSON].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSON].self))
        }
    }

    /// The member of an object; null where there is none.
    subscript(_ key: String) -> JSON { if case .object(let members) = self { members[key] ?? .null } else { .null } }
    var string: String? { if case .string(let text) = self { text } else { nil } }
    var number: Int? { if case .number(let number) = self { Int(exactly: number) } else { nil } }
    var array: [JSON] { if case .array(let values) = self { values } else { [] } }

    /// Indented, with the members of objects in the order of their names.
    var text: String { text(indent: "") }

    private func text(indent: String) -> String {
        let deeper = indent + "  "
        func block(_ parts: [String], _ begin: String, _ end: String) -> String {
            parts.isEmpty
                ? begin + end
                : "\(begin)\n" + parts.map { deeper + $0 }.joined(separator: ",\n") + "\n\(indent)\(end)"
        }
        switch self {
        case .null: return "null"
        case .bool(let value): return "\(value)"
        case .number(let value): return Int(exactly: value).map { "\($0)" } ?? "\(value)"
        case .string(let value): return Self.quoted(value)
        case .array(let values): return block(values.map { $0.text(indent: deeper) }, "[", "]")
        case .object(let members):
            let parts = members.sorted { $0.key < $1.key }.map { key, value in
                "\(Self.quoted(key)): \(value.text(indent: deeper))"
            }
            return block(parts, "{", "}")
        }
    }

    private static func quoted(_ text: String) -> String {
        "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n") + "\""
    }
}

/// Replaces values that differ from run to run and from machine to machine by placeholders, which tell the type.
struct Normalizer {
    /// Texts and their placeholders; earlier ones are replaced first.
    var names: [(String, String)]

    /// Members whose values are never the same.
    private static let volatile: Set<String> = [
        "pid", "device", "inode", "seconds", "version", "size", "increment", "checks", "sha256",
    ]

    func text(_ text: String) -> String {
        names.reduce(text) { $0.replacing($1.0, with: $1.1) }
            .replacing(#/\d{14}\.\d{6}Z#[0-9a-f]{6}#[0-9a-f]{3}#[0-9a-f]{6}/#, with: "<csn>")
            .replacing(#/\d{8}T\d{6}Z/#, with: "<time>")
            .replacing(#/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/#, with: "<time>")
            .replacing(#/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/#, with: "<uuid>")
            .replacing(#/process \d+/#, with: "process <number>")
            .replacing(#/\d+ bytes/#, with: "<number> bytes").replacing(#/alone \d+/#, with: "alone <number>")
    }

    func json(_ value: JSON, of key: String = "") -> JSON {
        switch value {
        case .number where Self.volatile.contains(key): return .string("<number>")
        case .string where Self.volatile.contains(key): return .string("<text>")
        case .null, .bool, .number: return value
        case .string(let text): return .string(self.text(text))
        case .array(let values): return .array(values.map { json($0, of: key) })
        case .object(var members):
            members = members.reduce(into: [:]) { $0[$1.key] = json($1.value, of: $1.key) }
            // Arguments and output of the system's programs depend on the system.
            if let program = members["arguments"]?.array.first, !(program.string ?? "").hasPrefix("<") {
                members["arguments"] = .array([program])
                members["output"] = members["output"].map { _ in .string("<output>") }
            }
            return .object(members)
        }
    }
}
