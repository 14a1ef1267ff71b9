import Daemon
import Foundation
import JobCore
import Provisioning
import Testing

@testable import prov_backup_rsnapshot

/// Everything that the documentation names exists: commands, options, settings, exit codes, links, and files of the source tree.
@Suite struct DocumentationTests {
    // MARK: Pages

    @Test("README.md is short and leads to every guide")
    func overview() throws {
        let readme = try DocumentationPage("README.md")
        #expect(readme.text.split(separator: "\n", omittingEmptySubsequences: false).count <= 200)
        #expect(DocumentationPage.guides.count > 10)
        for guide in DocumentationPage.guides.dropFirst() { #expect(readme.links.contains(guide), "\(guide)") }
    }

    @Test("every link leads to a file that is there, and to a heading of it", arguments: DocumentationPage.paths)
    func links(path: String) throws {
        let page = try DocumentationPage(path)
        let directory = DaemonHarness.checkout.appending(path: path).deletingLastPathComponent()
        for link in page.links where !link.contains("://") {
            let parts = link.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let target = parts[0].isEmpty ? page : try linked(parts[0], from: directory, link: link, in: path)
            if parts.count == 2 { #expect(target?.anchors.contains(parts[1]) == true, "\(path): \(link)") }
        }
    }

    /// - Returns: the page; `nil` for a file of another kind.
    private func linked(_ target: String, from directory: URL, link: String, in path: String) throws
        -> DocumentationPage?
    {
        let file = directory.appending(path: target).standardizedFileURL.path
        #expect(FileManager.default.fileExists(atPath: file), "\(path): \(link)")
        return DocumentationPage.paths.contains { DaemonHarness.checkout.appending(path: $0).path == file }
            ? try DocumentationPage(String(file.dropFirst(DaemonHarness.checkout.path.count + 1))) : nil
    }

    @Test("a path of the source tree is there", arguments: DocumentationPage.paths)
    func paths(path: String) throws {
        let page = try DocumentationPage(path)
        let words = (page.inlineCode + page.fencedLines).flatMap { $0.split(separator: " ") }
        for word in words.map(String.init)
        where word.contains(/^(etc|bin|docs|tools|bench|Sources|Tests)\/[\w.\/*+-]+$/) {
            // Where bin/bench draws its plots.
            guard word != "bench/results" else { continue }
            let found = FileManager.default.fileExists(atPath: DaemonHarness.checkout.appending(path: word).path)
            #expect(found || (word.contains("*") && !files(matching: word).isEmpty), "\(path): \(word)")
        }
    }

    private func files(matching pattern: String) -> [String] {
        let file = DaemonHarness.checkout.appending(path: pattern)
        let ending = file.lastPathComponent.drop { $0 == "*" }
        let directory = file.deletingLastPathComponent().path
        return ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).filter { $0.hasSuffix(ending) }
    }

    // MARK: Commands

    @Test("every command line is one that the program takes", arguments: DocumentationPage.paths)
    func commands(path: String) throws {
        let page = try DocumentationPage(path)
        let program = try #require(CommandHelp.program)
        let named = (page.inlineCode + page.fencedLines).flatMap { code in
            code.matches(of: /(?:^|^\$ |[\("=:] ?|[A-Z_]=\S+ )prov-backup-rsnapshot ([^|>&;)"]+)/)
                .map { String($0.output.1) }
        }
        let short = page.inlineCode.filter { code in
            program.subcommand(code.prefix { $0 != " " }) != nil && !code.contains(/[=(]/)
        }
        for line in named + short { expect(line, of: program, in: path) }
    }

    private func expect(_ line: String, of program: CommandHelp, in path: String) {
        var command = program
        for word in line.split(separator: " ").prefix(while: { $0 != "#" }) {
            // Of every program with ArgumentParser, and not in its help; a shell follows.
            if word == "--generate-completion-script" { return }
            if word.hasPrefix("-"), word.count > 1 {
                let name = word.drop { $0 == "-" }.prefix { $0 != "=" }
                #expect(
                    command.options.contains(String(name)) || ["help", "version"].contains(name),
                    "\(path): \(command.commandName) has no option \(word): \(line)")
            } else if command.subcommands?.isEmpty == false {
                guard let inner = command.subcommand(word.trimmingCharacters(in: [",", "."])) else {
                    Issue.record("\(path): \(command.commandName) has no command \(word): \(line)")
                    return
                }
                command = inner
            }
        }
    }

    // MARK: Settings

    @Test(
        "every setting is one that the program reads, with a value that it takes",
        arguments: DocumentationPage.guides.filter { $0 != "docs/settings.md" })
    func settings(path: String) throws {
        let page = try DocumentationPage(path)
        let keys = Dictionary(grouping: SettingsSchema.daemon.sections.flatMap(\.keys), by: \.name)
        for code in page.inlineCode + page.fencedLines {
            if let match = code.wholeMatch(of: /([A-Z][A-Z_]+) = ?(.*)/), code.contains(" =") {
                let (name, value) = (String(match.output.1), String(match.output.2))
                guard let known = keys[name] else {
                    Issue.record("\(path): there is no key \(name): \(code)")
                    continue
                }
                #expect(known.contains { (try? $0.parse(value)) != nil }, "\(path): \(code)")
            } else if code.contains(/^[A-Z]+(_[A-Z]+)*$/), !Self.isOther(code) {
                #expect(keys[code] != nil, "\(path): there is no key \(code)")
            } else if let match = code.wholeMatch(of: /\[([A-Z][A-Za-z_ ]+)\]/) {
                let title = String(match.output.1)
                #expect(
                    SettingsSchema.daemon.sections.map(\.name).contains {
                        title == $0.title || $0.placeholder != nil && title.hasPrefix($0.title + " ")
                    }, "\(path): there is no section \(code)")
            }
        }
    }

    /// Words in capitals that are no settings: names of return values, variables of scripts, output of commands, and values of
    /// attributes.
    private static func isOther(_ word: String) -> Bool {
        ProvisioningExitCode.allCases.contains { $0.name == word } || word.hasPrefix("PROV_")
            || ["NOT", "PATH", "NOTICE", "WARNING", "ERROR", "R", "T", "E", "A", "S", "FALSE", "YYYYMMDD"].contains(
                word)
    }

    // MARK: Exit codes

    @Test("the tables of exit codes have those of the program, and no other")
    func exitCodes() throws {
        func rows(_ heading: String, _ row: Regex<(Substring, Substring)>) throws -> [String] {
            try DocumentationPage("docs/troubleshooting.md").section(heading).matches(of: row).map {
                String($0.output.1)
            }
        }
        #expect(
            try rows("## Exit statuses", /(?m)^\| (\d+) \|/) == ProcessExitStatus.allCases.map { String($0.rawValue) })
        #expect(
            try rows("## Return values", /(?m)^\| (\d+ \| `\w+`) \|/)
                == ProvisioningExitCode.allCases.map { "\($0.rawValue) | `\($0.name)`" })
    }

    // MARK: Messages

    @Test("messages and shipped files name what is installed: a manual page and a section that it has")
    func messages() async throws {
        let places = ["Sources", "etc"].map { DaemonHarness.checkout.appending(path: $0).path }
        let search = try RunningProgram(
            URL(filePath: "/usr/bin/grep"),
            ["-rIE", "README|[.]md|etc/|prov-backup-rsnapshot[a-z.-]*[(][0-9][)]"] + places)
        #expect(await search.end() == 0, "\(search.output)")
        var named = 0
        for found in search.output.split(separator: "\n") {
            let line = found.drop { $0 != ":" }.dropFirst()
            guard !line.contains(/^\s*\/\//) else { continue }
            #expect(!line.contains(/README|\.md\b|(?:^|[ "(])etc\//), "\(found)")
            for match in line.matches(of: /(prov-backup-rsnapshot[a-z.-]*)\((\d)\), ([A-Z]+(?: [A-Z]+)*)/) {
                let page = DaemonHarness.checkout.appending(path: "etc/man/\(match.output.1).\(match.output.2)")
                let manual = try String(contentsOf: page, encoding: .utf8)
                #expect(manual.contains("\n.Sh \(match.output.3)\n"), "\(found)")
                named += 1
            }
        }
        #expect(named > 5)
    }
}
