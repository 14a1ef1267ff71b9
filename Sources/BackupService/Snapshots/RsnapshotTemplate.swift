import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage

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
        /// The directory that holds the account's snapshots, without a slash at its end.
        case snapshotRoot = "SNAPSHOT_ROOT"
        case rsync = "RSYNC"
        case lockFile = "LOCKFILE"
        case retain = "RETAIN"
    }

    struct Invalid: Error, Hashable, CustomStringConvertible {
        var source: String
        var line: Int
        var reason: String
        var hint: String
        var description: String { "\(source):\(line): \(reason); \(hint)" }
    }

    private enum Piece: Hashable { case text(String), placeholder(Placeholder) }

    /// The text that it was made from.
    let text: String
    private let source: String
    /// The whole file: what stays, and what is put between.
    private let pieces: [Piece]
    /// The words with which the template's own lines begin: what a rendered file may hold, and nothing besides.
    let directives: Set<String>
    /// Its lines that are the same for every account and were found right here.
    let fixedLines: Set<Substring>

    /// - Parameters:
    ///   - text: the template file's text.
    ///   - source: its name, for messages.
    init(parsing text: String, source: String) throws(Invalid) {
        self.text = text
        self.source = source
        var pieces: [Piece] = []
        var kept = ""
        var directives: Set<String> = []
        var fixedLines: Set<Substring> = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init).enumerated()
        {
            if line.hasPrefix("#") || line.isEmpty {
                kept += line + "\n"
                continue
            }
            let parts = try Self.pieces(of: line, source: source, number: index + 1)
            let isRetain = parts.contains(.placeholder(.retain))
            if isRetain, parts.count > 1 {
                throw Invalid(
                    source: source, line: index + 1, reason: "%RETAIN% shares its line with something else",
                    hint: "let it stand alone: it becomes the retain lines")
            }
            let directive = isRetain ? "retain" : try Self.checked(line, source: source, number: index + 1)
            directives.insert(directive)
            if parts.count == 1, !isRetain, RsnapshotDirective.table[directive]?.dependsOnAccount == false {
                fixedLines.insert(line[...])
            }
            for part in parts {
                if case .text(let text) = part {
                    kept += text
                } else {
                    pieces += [.text(kept), part]
                    kept = ""
                }
            }
            // Each of the lines that %RETAIN% becomes has its own end, and there may be none.
            if !isRetain { kept += "\n" }
        }
        // Behind the last line's end nothing begins.
        if text.hasSuffix("\n") { kept.removeLast() }
        self.pieces = pieces + [.text(kept)]
        self.directives = directives
        self.fixedLines = fixedLines
    }

    /// - Returns: the line's directive, which may stand in a template as it is written here.
    private static func checked(_ line: String, source: String, number: Int) throws(Invalid) -> String {
        do throws(RsnapshotConfiguration.Invalid) {
            let directive = try RsnapshotConfiguration.Directive(parsing: line[...], number: number)
            try directive.check(isTemplate: true) { "%\($0.rawValue)%" }
            return directive.name
        } catch {
            throw Invalid(source: source, line: error.line, reason: error.reason, hint: error.hint)
        }
    }

    /// A piece of a line with its placeholders filled in.
    static func fill(_ text: String, values: (Placeholder) -> String) -> String {
        text.split(separator: "%", omittingEmptySubsequences: false).enumerated().map { index, part in
            index.isMultiple(of: 2) ? String(part) : Placeholder(rawValue: String(part)).map(values) ?? "%\(part)%"
        }.joined()
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
                    hint: "write one of " + Placeholder.allCases.map { "%\($0.rawValue)%" }.joined(separator: " "))
            }
        }
        guard line.filter({ $0 == "%" }).count.isMultiple(of: 2) else {
            throw Invalid(
                source: source, line: number, reason: "a % stands alone", hint: "write placeholders as %NAME%")
        }
        return pieces
    }

    /// The configuration of one account. Values go in as they are: they were checked, and `RsnapshotConfiguration` checks the whole.
    func render(retention: Retention, values: (Placeholder) -> String) -> String {
        var rendered = ""
        rendered.reserveCapacity(2 * text.utf8.count)
        for piece in pieces {
            switch piece {
            case .text(let text): rendered += text
            case .placeholder(.retain):
                for level in retention.levels { rendered += "retain\t\(level.rawValue)\t\(retention[level])\n" }
            case .placeholder(let placeholder): rendered += values(placeholder)
            }
        }
        return rendered
    }
}

/// The file of the template, which is read and taken apart anew only where it has changed.
///
/// Diagnostics: code 7, class configuration, or shortage where the machine lacks what reading takes, with the file, and the line where one is at fault.
final class TemplateFile: Sendable {
    let path: FilePath
    private let restlessTime: Duration
    private let kept = Mutex<(version: FileVersion, template: RsnapshotTemplate)?>(nil)

    /// - Parameter restlessTime: how long after a change nothing is kept, see `FileVersion`.
    init(_ path: FilePath, restlessTime: Duration = .seconds(2)) {
        self.path = path
        self.restlessTime = restlessTime
    }

    /// The template as it is now. Waits for the file system.
    func template() throws(ProvisioningFailure) -> RsnapshotTemplate {
        if access(path.string, F_OK) == 0 {
            try FileTrust.demand(
                path, as: .file, setting: "RSNAPSHOT_TEMPLATE", code: .cannotCreateRsnapshotConfiguration)
        }
        do {
            var status = stat()
            if stat(path.string, &status) == 0, let kept = kept.withLock({ $0 }), kept.version == FileVersion(status) {
                return kept.template
            }
            let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                guard fstat(file.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
                let version = FileVersion(status)
                let template = try RsnapshotTemplate(parsing: SmallFile.text(of: file), source: path.string)
                let isSettled = version.isSettled(for: restlessTime)
                kept.withLock { $0 = isSettled ? (version, template) : nil }
                return template
            }
        } catch let error as RsnapshotTemplate.Invalid {
            throw Self.failure("\(error.source):\(error.line): \(error.reason)", error.hint)
        } catch let error as Errno where error.isShortage {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, .shortage, reason: "the template \(path) cannot be read: \(error)",
                hint: error.shortageHint(at: path.removingLastComponent()))
        } catch {
            throw Self.failure(
                "the template \(path) cannot be read: \(error)", "put it there, or correct RSNAPSHOT_TEMPLATE")
        }
    }

    private static func failure(_ reason: String, _ hint: String) -> ProvisioningFailure {
        ProvisioningFailure(.cannotCreateRsnapshotConfiguration, .configuration, reason: reason, hint: hint)
    }
}
