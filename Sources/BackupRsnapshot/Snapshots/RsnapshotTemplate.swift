/// A template of an account's rsnapshot configuration: lines in which `%NAME%` stands for a value; comments are left as they are.
///
/// Diagnostics: `Invalid` names the file, the line and what may stand there.
struct RsnapshotTemplate: Hashable, Sendable {
    /// What a template may name. `%RETAIN%` stands alone on its line and becomes one `retain` line for each level in use.
    enum Placeholder: String, CaseIterable {
        case uid = "UID"
        case uidNumber = "UID_NUMBER"
        case gidNumber = "GID_NUMBER"
        /// The home without the chroot mark and without a slash at its end.
        case home = "HOME"
        /// The account's `.snapshots`, without a slash at its end.
        case snapshotRoot = "SNAPSHOT_ROOT"
        case rsync = "RSYNC"
        case lockFile = "LOCKFILE"
        case retain = "RETAIN"
    }

    struct Invalid: Error, Hashable, CustomStringConvertible {
        var source: String
        var line: Int
        var reason: String
        var cure: String
        var description: String { "\(source):\(line): \(reason); \(cure)" }
    }

    private enum Piece: Hashable { case text(String), placeholder(Placeholder) }
    private enum Line: Hashable { case comment(String), retain, directive([Piece]) }

    private let source: String
    private let lines: [Line]
    /// The words with which the template's own lines begin: what a rendered file may hold, and nothing besides.
    let directives: Set<String>

    /// - Parameters:
    ///   - text: the template file's text.
    ///   - source: its name, for messages.
    init(parsing text: String, source: String) throws(Invalid) {
        self.source = source
        var lines: [Line] = []
        var directives: Set<String> = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init).enumerated()
        {
            if line.hasPrefix("#") || line.isEmpty {
                lines.append(.comment(line))
                continue
            }
            let pieces = try Self.pieces(of: line, source: source, number: index + 1)
            if pieces.contains(.placeholder(.retain)) {
                guard pieces.count == 1 else {
                    throw Invalid(
                        source: source, line: index + 1, reason: "%RETAIN% shares its line with something else",
                        cure: "let it stand alone: it becomes the retain lines")
                }
                lines.append(.retain)
                directives.insert("retain")
            } else {
                lines.append(.directive(pieces))
                directives.insert(String(line.prefix { $0 != "\t" }))
            }
        }
        if lines.last == .comment("") { lines.removeLast() }
        self.lines = lines
        self.directives = directives
    }

    private static func pieces(of line: String, source: String, number: Int) throws(Invalid) -> [Piece] {
        var pieces: [Piece] = []
        for (index, part) in line.split(separator: "%", omittingEmptySubsequences: false).enumerated() {
            if index.isMultiple(of: 2) {
                if !part.isEmpty { pieces.append(.text(String(part))) }
            } else if let placeholder = Placeholder(rawValue: String(part)) {
                pieces.append(.placeholder(placeholder))
            } else {
                throw Invalid(
                    source: source, line: number, reason: "%\(part)% is no placeholder",
                    cure: "write one of " + Placeholder.allCases.map { "%\($0.rawValue)%" }.joined(separator: " "))
            }
        }
        guard line.filter({ $0 == "%" }).count.isMultiple(of: 2) else {
            throw Invalid(
                source: source, line: number, reason: "a % stands alone", cure: "write placeholders as %NAME%")
        }
        return pieces
    }

    /// The configuration of one account. Values go in as they are: they were checked, and `RsnapshotConfiguration` checks the whole.
    func render(retention: Retention, values: (Placeholder) -> String) -> String {
        let rendered = lines.flatMap { line -> [String] in
            switch line {
            case .comment(let text): [text]
            case .retain: retention.levels.map { "retain\t\($0.rawValue)\t\(retention[$0])" }
            case .directive(let pieces):
                [
                    pieces.map { piece in
                        switch piece {
                        case .text(let text): text
                        case .placeholder(let placeholder): values(placeholder)
                        }
                    }.joined()
                ]
            }
        }
        return rendered.joined(separator: "\n") + "\n"
    }
}
