import ArgumentParser
import Foundation
import Testing

@testable import prov_backup_rsnapshot

/// README.md's table of commands is that of the program.
@Suite struct CommandTableTests {
    /// `jobs list`, `run`, …
    private static func names(_ command: any ParsableCommand.Type, _ path: [String] = []) -> [String] {
        let inner = command.configuration.subcommands
        guard !inner.isEmpty else { return [path.joined(separator: " ")] }
        return inner.flatMap { names($0, path + [$0.configuration.commandName ?? "\($0)".lowercased()]) }
    }

    private struct Help: Decodable {
        struct Command: Decodable {
            struct Argument: Decodable {
                struct Name: Decodable { let name: String }
                let names: [Name]?
                let valueName: String?
                let abstract: String?
            }
            let commandName: String
            let subcommands: [Command]?
            let arguments: [Argument]?
        }
        let command: Command
    }

    @Test("what several commands take has one name and one meaning in all of them")
    func sharedOptions() throws {
        let help = try JSONDecoder().decode(Help.self, from: Data(ProvBackupRsnapshot._dumpHelp().utf8)).command
        var meanings: [String: Set<String>] = [:]
        func collect(_ command: Help.Command) {
            for argument in command.arguments ?? [] {
                for name in argument.names?.map(\.name) ?? [argument.valueName ?? ""] {
                    meanings[name, default: []].insert(argument.abstract ?? "")
                }
            }
            command.subcommands?.forEach(collect)
        }
        collect(help)
        for name in ["config", "c", "global", "g", "json", "id", "debug", "directory"] {
            #expect(meanings[name]?.count == 1, "\(name): \(meanings[name] ?? [])")
        }
    }

    @Test("every command stands in README.md's table")
    func table() throws {
        let text = try String(contentsOf: DaemonBench.checkout.appending(path: "README.md"), encoding: .utf8)
        let start = try #require(text.range(of: "\n## Commands\n"))
        let section = text[start.upperBound...].prefix(
            upTo: text.range(of: "\n## ", range: start.upperBound..<text.endIndex)?.lowerBound ?? text.endIndex)
        let names = Self.names(ProvBackupRsnapshot.self)
        #expect(names.contains("jobs list") && names.count > 15)
        let rows = section.split(separator: "\n").filter { $0.hasPrefix("| `") }
        for name in names {
            #expect(
                rows.contains { $0.contains("`\(name)`") || $0.contains("`\(name) ") }, "\(name) is not in the table")
        }
    }
}
