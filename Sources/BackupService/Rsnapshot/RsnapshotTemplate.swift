import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage

/// A line of rsnapshot's configuration that is not allowed.
struct RsnapshotSyntaxError: Error, Hashable {
    /// 1 is the first; 0: unknown.
    var line = 0
    var reason: String
    var hint: String

    init(_ reason: String, _ hint: String, line: Int = 0) {
        (self.reason, self.hint, self.line) = (reason, hint, line)
    }
}

/// A template of an account's rsnapshot configuration: lines in which `%NAME%` is replaced by a value; comments are kept unchanged.
struct RsnapshotTemplate: Hashable, Sendable {
    /// The names. `%RETAIN%` is alone on its line and becomes one `retain` line for each level in use.
    enum Placeholder: String, CaseIterable {
        case uid = "UID"
        case uidNumber = "UID_NUMBER"
        case gidNumber = "GID_NUMBER"
        /// The home without the chroot mark and without a slash at its end.
        case home = "HOME"
        /// The directory of the account's snapshots, without a slash at its end.
        case snapshotRoot = "SNAPSHOT_ROOT"
        case rsync = "RSYNC"
        case lockFile = "LOCKFILE"
        case retain = "RETAIN"
    }

    private enum Piece: Hashable { case text(String), placeholder(Placeholder) }

    let text: String
    private let pieces: [Piece]
    /// The directives of the template's own lines; a rendered file may have no others.
    let directives: Set<String>
    /// Its valid lines that are the same for every account.
    private let fixedLines: Set<[UInt8]>

    init(parsing text: String) throws(RsnapshotSyntaxError) {
        self.text = text
        var pieces: [Piece] = []
        var kept = ""
        var directives: Set<String> = []
        var fixedLines: Set<[UInt8]> = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init).enumerated()
        {
            if line.hasPrefix("#") || line.isEmpty {
                kept += line + "\n"
                continue
            }
            let parts = try Self.pieces(of: line, number: index + 1)
            let isRetain = parts.contains(.placeholder(.retain))
            if isRetain, parts.count > 1 {
                throw RsnapshotSyntaxError(
                    "%RETAIN% shares its line with something else", "let it stand alone: it becomes the retain lines",
                    line: index + 1)
            }
            if isRetain {
                directives.insert("retain")
            } else {
                let parsed = try RsnapshotLine(parsing: line[...], number: index + 1)
                try parsed.check(isTemplate: true) { "%\($0.rawValue)%" }
                directives.insert(parsed.name)
                if parts.count == 1, RsnapshotDirective.table[parsed.name]?.dependsOnAccount == false {
                    fixedLines.insert(Array(line.utf8))
                }
            }
            for part in parts {
                if case .text(let text) = part {
                    kept += text
                } else {
                    pieces += [.text(kept), part]
                    kept = ""
                }
            }
            // Each retain line has its own line feed, and there may be none of them.
            if !isRetain { kept += "\n" }
        }
        if text.hasSuffix("\n") { kept.removeLast() }
        self.pieces = pieces + [.text(kept)]
        self.directives = directives
        self.fixedLines = fixedLines
    }

    /// Replaces the placeholders in a field of ``RsnapshotDirective``.
    static func fill(_ text: String, values: (Placeholder) -> String) -> String {
        text.split(separator: "%", omittingEmptySubsequences: false).enumerated().map { index, part in
            index.isMultiple(of: 2) ? String(part) : Placeholder(rawValue: String(part)).map(values) ?? "%\(part)%"
        }.joined()
    }

    private static func pieces(of line: String, number: Int) throws(RsnapshotSyntaxError) -> [Piece] {
        var pieces: [Piece] = []
        let parts = line.split(separator: "%", omittingEmptySubsequences: false)
        for (index, part) in parts.enumerated() {
            if index.isMultiple(of: 2) {
                if !part.isEmpty { pieces.append(.text(String(part))) }
            } else if let placeholder = Placeholder(rawValue: String(part)) {
                pieces.append(.placeholder(placeholder))
            } else {
                throw RsnapshotSyntaxError(
                    "%\(part)% is no placeholder",
                    "write one of " + Placeholder.allCases.map { "%\($0.rawValue)%" }.joined(separator: " "),
                    line: number)
            }
        }
        guard !parts.count.isMultiple(of: 2) else {
            throw RsnapshotSyntaxError("a % is not part of a placeholder", "write placeholders as %NAME%", line: number)
        }
        return pieces
    }

    /// The configuration of one account. Values were checked before and are inserted unchanged; ``RsnapshotLine/all(in:allowed:account:store:values:)``
    /// checks the result.
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

/// A line with a directive in a template or an account's configuration.
///
/// rsnapshot runs as root and some directives run commands, so a rendered file is parsed and checked again
/// (specification: snapshots.md#rsnapshot-configuration).
struct RsnapshotLine: Hashable, Sendable {
    var number: Int
    var name: String
    /// The fields after the name; at least one.
    var fields: [String]
}

extension RsnapshotLine {
    /// Parses and checks an account's configuration.
    /// - Parameters:
    ///   - allowed: the directives of the template; nil: all that ``RsnapshotDirective`` allows.
    ///   - fixedLines: lines of the template that are valid for every account and are not checked again.
    ///   - account: the directory that `snapshot_root` must be in.
    ///   - store: what `snapshot_root` may be instead.
    ///   - values: of the placeholders.
    @discardableResult
    static func all(
        in text: String, allowed: Set<String>? = nil, fixedLines: Set<[UInt8]> = [], account: FilePath,
        store: FilePath? = nil,
        values: (RsnapshotTemplate.Placeholder) -> String
    ) throws(RsnapshotSyntaxError) -> [RsnapshotLine] {
        var lines: [RsnapshotLine] = []
        // As bytes, since this runs for every account and characters cost ten times as much.
        for (index, line) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .enumerated()
        where !line.isEmpty && line.first != UInt8(ascii: "#") {
            let parsed = try RsnapshotLine(parsing: Substring(line), number: index + 1)
            if let allowed, !allowed.contains(parsed.name) {
                throw RsnapshotSyntaxError(
                    "the template has no directive \(parsed.name)", "take it out, or write it into the template itself",
                    line: parsed.number)
            }
            if !fixedLines.contains(Array(line)) { try parsed.check(isTemplate: false, values: values) }
            lines.append(parsed)
        }
        try check(lines, account: account, store: store)
        return lines
    }

    private static func check(
        _ lines: [RsnapshotLine], account: FilePath, store: FilePath?
    ) throws(RsnapshotSyntaxError) {
        var names: Set<String> = []
        for line in lines
        where !names.insert(line.name).inserted && RsnapshotDirective.table[line.name]?.isRepeatable == false {
            throw RsnapshotSyntaxError("\(line.name) occurs twice", "leave one", line: line.number)
        }
        for (name, directive) in RsnapshotDirective.required where !names.contains(name) {
            throw RsnapshotSyntaxError(
                "there is no line \(name)", directive.example(name), line: lines.last?.number ?? 1)
        }
        guard let root = lines.first(where: { $0.name == "snapshot_root" }),
            let backup = lines.first(where: { $0.name == "backup" })
        else { return }
        let path = FilePath(root.fields[0])
        guard path.isAbsolute, path.isLexicallyNormal,
            path == store || path != account && path.starts(with: account)
        else {
            throw RsnapshotSyntaxError(
                "snapshot_root \(path) does not lie inside \(account)", "write snapshot_root<TAB>%SNAPSHOT_ROOT%/",
                line: root.number)
        }
        guard root.number < backup.number else {
            throw RsnapshotSyntaxError(
                "backup comes before snapshot_root", "put snapshot_root above it", line: backup.number)
        }
    }

    /// - Parameter line: neither empty nor a comment.
    init(parsing line: Substring, number: Int) throws(RsnapshotSyntaxError) {
        let isPlain = line.utf8.allSatisfy { (0x20..<0x7F).contains($0) || $0 == UInt8(ascii: "\t") }
        if isPlain ? line.utf8.first.map({ $0 <= 0x20 }) == true : line.first?.isWhitespace == true {
            throw RsnapshotSyntaxError(
                "the line begins with white space and would continue the one before", "begin it with a directive",
                line: number)
        }
        if !isPlain, line.unicodeScalars.contains(where: { $0.isControl && $0 != "\t" }) {
            throw RsnapshotSyntaxError("the line has control characters", "take them out", line: number)
        }
        let fields = line.utf8.split(separator: UInt8(ascii: "\t")).map { String(Substring($0)) }
        guard fields.count > 1 else {
            throw RsnapshotSyntaxError(
                "the line has no TAB between its fields", "separate fields by TABs, not by blanks", line: number)
        }
        let blank = UInt8(ascii: " ")
        if let field = fields.first(where: { $0.utf8.first == blank || $0.utf8.last == blank }) {
            throw RsnapshotSyntaxError(
                "the field \"\(field)\" begins or ends with a blank", "separate fields by TABs alone", line: number)
        }
        self.init(number: number, name: fields[0], fields: Array(fields.dropFirst()))
    }

    /// Checks it against the table of directives.
    func check(
        isTemplate: Bool, values: (RsnapshotTemplate.Placeholder) -> String
    ) throws(RsnapshotSyntaxError) {
        do throws(RsnapshotSyntaxError) {
            try RsnapshotDirective.check(name, fields, isTemplate: isTemplate, values: values)
        } catch {
            throw RsnapshotSyntaxError(error.reason, error.hint, line: number)
        }
    }
}

extension RsnapshotTemplate {
    /// Makes and checks an account's configuration.
    /// - Throws: code 7, class configuration, for a fault of the template.
    func render(
        for account: BackupAccount, home: HomePath, rsync: FilePath, configuration: BackupConfiguration
    ) throws(ProvisioningFailure) -> String {
        let root = configuration.snapshots == .own ? home.snapshots : home.store
        func value(_ placeholder: RsnapshotTemplate.Placeholder) -> String {
            switch placeholder {
            case .uid: account.uid
            case .uidNumber: String(account.uidNumber)
            case .gidNumber: String(account.gidNumber)
            case .home: home.path.string
            case .snapshotRoot: root.string
            case .rsync: rsync.string
            case .lockFile: configuration.lockDirectory.appending("rsnapshot-\(account.uid).pid").string
            case .retain: ""
            }
        }
        let text = render(retention: account.retention, values: value)
        do throws(RsnapshotSyntaxError) {
            try RsnapshotLine.all(
                in: text, allowed: directives, fixedLines: fixedLines, account: home.accountDirectory,
                store: home.store, values: value)
            return text
        } catch {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, .configuration,
                reason: "the file made from \(configuration.template) is wrong in line \(error.line): \(error.reason)",
                hint: error.hint)
        }
    }
}

/// The template file; it is read and parsed again only after it has changed.
///
/// Errors: code 7 with the file, and the line of a fault; class configuration, or shortage if the machine lacks what reading needs.
final class TemplateFile: Sendable {
    let path: FilePath
    private let restlessTime: Duration
    private let kept = Mutex<(version: FileVersion, template: RsnapshotTemplate)?>(nil)

    /// - Parameter restlessTime: for how long after a change the template is not kept, see `FileVersion`.
    init(_ path: FilePath, restlessTime: Duration = .seconds(2)) {
        self.path = path
        self.restlessTime = restlessTime
    }

    /// The current template. It blocks.
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
                let template = try RsnapshotTemplate(parsing: SmallFile.text(SmallFile.bytes(of: file)))
                let isSettled = version.isSettled(for: restlessTime)
                kept.withLock { $0 = isSettled ? (version, template) : nil }
                return template
            }
        } catch let error as RsnapshotSyntaxError {
            throw Self.failure(.configuration, "\(path):\(error.line): \(error.reason)", error.hint)
        } catch let error as Errno where error.isShortage {
            throw Self.failure(
                .shortage, "the template \(path) cannot be read: \(error)",
                error.shortageHint(at: path.removingLastComponent()))
        } catch {
            throw Self.failure(
                .configuration, "the template \(path) cannot be read: \(error)",
                "put it there, or correct RSNAPSHOT_TEMPLATE")
        }
    }

    private static func failure(_ failureClass: FailureClass, _ reason: String, _ hint: String) -> ProvisioningFailure {
        ProvisioningFailure(.cannotCreateRsnapshotConfiguration, failureClass, reason: reason, hint: hint)
    }
}
