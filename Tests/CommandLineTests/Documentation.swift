import Foundation
import Testing

/// A page of the documentation, a Markdown file of the repository.
struct DocumentationPage {
    /// In the repository, such as `docs/operate.md`.
    let path: String
    let text: String
    /// The text without blocks between fences.
    let prose: String
    /// The lines between fences.
    let fencedLines: [String]

    /// README.md, the other pages in its directory, and all below `docs`.
    static let paths: [String] = {
        let docs = DaemonHarness.checkout.appending(path: "docs")
        let guides = (try? FileManager.default.subpathsOfDirectory(atPath: docs.path)) ?? []
        return ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
            + guides.filter { $0.hasSuffix(".md") }.map { "docs/\($0)" }.sorted()
    }()

    /// README.md and the guides.
    static let guides = ["README.md"] + paths.filter { $0.contains(/^docs\/[a-z-]+\.md$/) }

    init(_ path: String) throws {
        self.path = path
        text = try String(contentsOf: DaemonHarness.checkout.appending(path: path), encoding: .utf8)
        var (prose, fenced, isFenced) = ("", [String](), false)
        for line in text.components(separatedBy: "\n") {
            if line.hasPrefix("```") {
                isFenced.toggle()
            } else if isFenced {
                fenced.append(line)
            } else {
                prose += line + "\n"
            }
        }
        (self.prose, fencedLines) = (prose, fenced)
    }

    /// The text between backquotes in the prose.
    var inlineCode: [String] { prose.matches(of: /`([^`\n]+)`/).map { String($0.output.1) } }

    /// The lines between the fence below a mark and its end.
    func block(_ mark: String) throws -> String {
        let mark = try #require(text.range(of: "<!-- \(mark) -->\n"), "\(path) has lost the mark \(mark)")
        let lines = text[mark.upperBound...].split(separator: "\n", omittingEmptySubsequences: false)
        try #require(lines.first?.hasPrefix("```") == true)
        return lines.dropFirst().prefix { $0 != "```" }.joined(separator: "\n") + "\n"
    }

    /// From a heading of the second level to the next one.
    func section(_ heading: String) throws -> Substring {
        let start = try #require(text.range(of: "\n\(heading)\n"), "\(path) has lost the heading \(heading)")
        let rest = text[start.upperBound...]
        return rest[..<(rest.range(of: "\n## ")?.lowerBound ?? rest.endIndex)]
    }

    /// The targets of links, as they are written.
    var links: [String] {
        prose.replacing(/`[^`\n]*`/, with: "").matches(of: /\]\(([^)\s]+)\)/).map { String($0.output.1) }
    }

    /// Of each heading the name that a link to it ends with.
    var anchors: Set<String> {
        var counts: [String: Int] = [:]
        for heading in prose.matches(of: /(?m)^#+ (.*)$/) {
            let shown = heading.output.1.replacing(/\[([^\]]*)\]\([^)]*\)/) { $0.output.1 }
            let name = shown.lowercased().filter { $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" || $0 == " " }
                .replacing(" ", with: "-")
            counts[name, default: 0] += 1
        }
        return Set(counts.flatMap { name, count in (0..<count).map { $0 == 0 ? name : "\(name)-\($0)" } })
    }
}
