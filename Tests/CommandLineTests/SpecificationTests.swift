import Daemon
import Foundation
import JobCore
import Provisioning
import Testing

/// Every citation of docs/specification exists, and its tables agree with the program.
@Suite struct SpecificationTests {
    private static let directory = DaemonHarness.checkout.appending(path: "docs/specification")

    private let pages: [String: String]

    init() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.directory.path)
        pages = try Dictionary(
            uniqueKeysWithValues: names.map { name in
                (name, try String(contentsOf: Self.directory.appending(path: name), encoding: .utf8))
            })
    }

    private func page(_ name: String) throws -> String { try #require(pages[name], "there is no page \(name)") }

    // MARK: Citations

    /// Text files of the checkout by their paths in it.
    private func files(below roots: [String]) throws -> [String: String] {
        let checkout = DaemonHarness.checkout
        var texts: [String: String] = [:]
        for root in roots {
            let below = FileManager.default.subpaths(atPath: checkout.appending(path: root).path) ?? []
            for path in below.isEmpty ? [root] : below.map({ "\(root)/\($0)" }) {
                // A file that cannot be read as text is a directory or a binary file.
                texts[path] = try? String(contentsOf: checkout.appending(path: path), encoding: .utf8)
            }
        }
        return texts
    }

    /// The anchors that GitHub gives to the headings of a page.
    private static func anchors(of page: String) -> Set<String> {
        let headings = page.matches(of: /(?m)^#+ (.+)$/).map { $0.1.lowercased() }
        return Set(
            headings.map { heading in
                String(heading.compactMap { $0 == " " ? "-" : $0.isLetter || $0.isNumber || $0 == "-" ? $0 : nil })
            })
    }

    private struct Rule {
        var number: String
        var suites: [String]
    }

    private func rules() throws -> [Rule] {
        try page("rows.md").matches(of: /(?m)^\| ([A-Z][0-9]+) \|.*\|(.+)\|$/).map { row in
            Rule(number: String(row.1), suites: row.2.matches(of: /`(\w+)`/).map { String($0.1) })
        }
    }

    /// The error of a citation or of a text that resembles one; nil: it is correct.
    private func fault(at place: Substring, _ rules: Set<String>) -> String? {
        let form = /[Ss]pecification: ([a-z-]+\.md)(?:#([a-z0-9-]+)| ([A-Z][0-9]+(?:(?:, | and | to )[A-Z][0-9]+)*))/
        guard let citation = place.prefixMatch(of: form) else {
            return "it is not cited as docs/specification/README.md says"
        }
        guard let page = pages[String(citation.1)] else { return "there is no page \(citation.1)" }
        if let anchor = citation.2, !Self.anchors(of: page).contains(String(anchor)) {
            return "\(citation.1) has no heading #\(anchor)"
        }
        let cited = citation.3?.matches(of: /[A-Z][0-9]+/).map { String($0.0) } ?? []
        if let unknown = cited.first(where: { citation.1 != "rows.md" || !rules.contains($0) }) {
            return "\(citation.1) has no rule \(unknown)"
        }
        return nil
    }

    @Test("every citation of the specification names a page, and a heading or a rule of it")
    func citations() throws {
        let rules = Set(try rules().map(\.number))
        var found = 0
        let roots = ["Sources", "Tests", "tools", "bin", "bench", "etc", "docs", "ARCHITECTURE.md", "README.md"]
        for (path, text) in try files(below: roots) {
            let citations = /[Ss]pecification:\s|[Ss]pecification, section|\b[Rr]ows? [DLBRF][0-9]|\bspec\/[a-z-]+\.md/
            for match in text.matches(of: citations) {
                found += 1
                if let fault = fault(at: text[match.startIndex...], rules) {
                    let line = text[..<match.startIndex].count { $0 == "\n" } + 1
                    Issue.record("\(path):\(line): \(fault): \(text[match.startIndex...].prefix(60))")
                }
            }
        }
        #expect(found > 50)
    }

    @Test("every rule by which a test is named exists, and every suite that a rule names")
    func testNames() throws {
        let tests = try files(below: ["Tests"]).filter { $0.key.hasSuffix(".swift") }
        let rules = try rules()
        let numbers = Set(rules.map(\.number))
        #expect(numbers.count == rules.count, "a number occurs twice")
        var suites: Set<String> = []
        for (path, text) in tests {
            suites.formUnion(text.matches(of: /\b(?:struct|class|actor|enum) (\w+)/).map { String($0.1) })
            for name in text.matches(of: /(?:@Test\(\s*"|func `)((?:[A-Z][0-9]{1,2}(?:: |, | - | ))+)/) {
                for number in name.1.matches(of: /[A-Z][0-9]+/) where !numbers.contains(String(number.0)) {
                    Issue.record("\(path): a test is named by \(number.0), which is no rule of rows.md")
                }
            }
        }
        for rule in rules {
            #expect(!rule.suites.isEmpty, "\(rule.number)")
            for suite in rule.suites { #expect(suites.contains(suite), "\(rule.number) names \(suite)") }
        }
    }

    @Test("every link from one page of the specification leads to a file, and its anchor to a heading")
    func links() throws {
        for (name, text) in pages {
            for link in text.matches(of: /\]\(([^)#\s]*)(?:#([^)\s]*))?\)/) {
                let file = Self.directory.appending(path: link.1.isEmpty ? name : String(link.1))
                let target = try? String(contentsOf: file, encoding: .utf8)
                #expect(target != nil, "\(name): \(link.0)")
                if let anchor = link.2, let target {
                    #expect(Self.anchors(of: target).contains(String(anchor)), "\(name): \(link.0)")
                }
            }
        }
    }

    // MARK: Tables

    @Test("contracts.md has every exit status, every provisioning code and every command")
    func contracts() throws {
        let text = try page("contracts.md")
        let statuses = try #require(text.components(separatedBy: "\n## ").first { $0.hasPrefix("Exit statuses\n") })
        for status in ProcessExitStatus.allCases {
            #expect(statuses.contains("\n| \(status.rawValue) | "), "\(status)")
        }
        for code in ProvisioningExitCode.allCases {
            #expect(text.contains("\n| \(code.rawValue) | `\(code.name)` | "), "\(code)")
        }
        let help = try String(contentsOf: Golden.file("help.txt"), encoding: .utf8)
        let commands = help.matches(of: /(?m)^== prov-backup-rsnapshot (.+)$/).map { String($0.1) }
        #expect(commands.count > 20)
        for command in commands where !commands.contains(where: { $0.hasPrefix("\(command) ") }) {
            #expect(text.contains("`\(command)`"), "\(command)")
        }
    }

    @Test("protocol.md has every mode in its place")
    func modes() throws {
        let text = try page("protocol.md")
        for operation in Provisioning.Operation.allCases {
            let modes = ProvisioningMode.Stage.allCases.map { ProvisioningMode(operation, $0).description }
            let row = text.firstMatch(
                of: try Regex("(?m)^\\| \(operation) \\| `\(modes[0])`.*\\| `\(modes[1])`.*\\| `\(modes[2])`"))
            #expect(row != nil, "\(operation)")
        }
    }

    @Test("jobs-and-scripts.md has every status, result and exit profile as the program has it")
    func jobs() throws {
        let text = try page("jobs-and-scripts.md")
        for status in JobStatus.allCases {
            #expect(text.contains("\n| \(status.letter) | \(status.title) | \(status.weight) |"), "\(status)")
        }
        for result in JobResult.allCases {
            #expect(
                text.contains("\n| \(result.rawValue) | \(result.status.letter) | \(result.integer) |"), "\(result)")
        }
        for profile in ExitProfile.builtIn {
            let meanings = profile.meanings.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.title)" }
            #expect(text.contains("\n| `\(profile.name)` | \(meanings.joined(separator: ", ")) |"), "\(profile.name)")
        }
    }

    @Test("schema.md has every attribute and class of the shipped schema by its number")
    func schema() throws {
        let text = try page("schema.md")
        let shipped = try String(
            contentsOf: DaemonHarness.checkout.appending(path: "etc/openldap/stoney-cloud.schema"), encoding: .utf8)
        let declared = shipped.matches(of: /\( 1\.3\.6\.1\.4\.1\.22621\.1\.[12]\.([0-9]+)\s+NAME (?:\( )?'(\w+)'/)
        #expect(declared.count > 30)
        for declaration in declared {
            #expect(text.contains("\n| \(declaration.1) | `\(declaration.2)`"), "\(declaration.2)")
        }
    }
}
