import ArgumentParser
import Foundation
import Testing

@testable import prov_backup_rsnapshot

/// The commands of the program and their arguments, as its help prints them.
struct CommandHelp: Decodable {
    struct Argument: Decodable {
        struct Name: Decodable { let name: String }
        let names: [Name]?
        let valueName: String?
        let abstract: String?
    }
    let commandName: String
    let subcommands: [CommandHelp]?
    let arguments: [Argument]?

    static let program: CommandHelp? = {
        struct Dump: Decodable { let command: CommandHelp }
        return try? JSONDecoder().decode(Dump.self, from: Data(ProvBackupRsnapshot._dumpHelp().utf8)).command
    }()

    /// Without hyphens.
    var options: Set<String> { Set((arguments ?? []).flatMap { $0.names ?? [] }.map(\.name)) }

    func subcommand(_ name: some StringProtocol) -> CommandHelp? { subcommands?.first { $0.commandName == name } }

    /// `jobs list`, `run`, …
    func paths(_ above: [String] = []) -> [String] {
        let inner = subcommands?.filter { $0.commandName != "help" } ?? []
        guard !inner.isEmpty else { return [above.joined(separator: " ")] }
        return inner.flatMap { $0.paths(above + [$0.commandName]) }
    }
}

/// The table of commands in docs/operate.md is that of the program.
@Suite struct CommandTableTests {
    @Test("what several commands take has one name and one meaning in all of them")
    func sharedOptions() throws {
        var meanings: [String: Set<String>] = [:]
        func collect(_ command: CommandHelp) {
            for argument in command.arguments ?? [] {
                for name in argument.names?.map(\.name) ?? [argument.valueName ?? ""] {
                    meanings[name, default: []].insert(argument.abstract ?? "")
                }
            }
            command.subcommands?.forEach(collect)
        }
        collect(try #require(CommandHelp.program))
        for name in ["config", "c", "global", "g", "json", "id", "debug", "directory"] {
            #expect(meanings[name]?.count == 1, "\(name): \(meanings[name] ?? [])")
        }
    }

    @Test("every command is in the table, with options that it has, and no other")
    func table() throws {
        let program = try #require(CommandHelp.program)
        let rows = try DocumentationPage("docs/operate.md").section("## Commands").split(separator: "\n")
            .filter { $0.hasPrefix("| `") }
        var named: [String] = []
        for row in rows {
            let cells = row.split(separator: "|").map { $0.matches(of: /`([^`]+)`/).map(\.output.1) }
            try #require(cells.count == 3, "\(row)")
            let commands = cells[0].map { $0.prefix { !$0.isUppercase }.trimmingCharacters(in: .whitespaces) }
            named += commands
            let known = commands.flatMap { path in
                path.split(separator: " ").reduce(program) { $0?.subcommand($1) }?.options ?? []
            }
            for option in cells[2] { #expect(known.contains(String(option.drop { $0 == "-" })), "\(row): \(option)") }
        }
        #expect(named.contains("jobs list") && named.count > 15)
        #expect(named.sorted() == program.paths().sorted())
    }
}
