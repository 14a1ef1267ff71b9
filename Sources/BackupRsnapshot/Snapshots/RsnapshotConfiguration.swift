import SystemPackage

/// A rsnapshot configuration, read again after it was rendered and held against the strict rules of the specification, section 4.
///
/// rsnapshot runs as root and some of its lines run commands, so nothing is trusted because of where it came from.
/// Diagnostics: `Invalid` with the line's number in the rendered file.
struct RsnapshotConfiguration: Hashable, Sendable {
    struct Directive: Hashable, Sendable {
        var line: Int
        var name: String
        var fields: [String]
    }

    struct Invalid: Error, Hashable, CustomStringConvertible {
        var line: Int
        var reason: String
        var cure: String
        var description: String { "line \(line): \(reason); \(cure)" }
    }

    let directives: [Directive]

    /// - Parameters:
    ///   - text: the rendered file.
    ///   - allowed: the directives that the template itself has.
    ///   - account: the folder that `snapshot_root` must lie in.
    init(parsing text: String, allowed: Set<String>, account: FilePath) throws(Invalid) {
        var directives: [Directive] = []
        // Bytes, as rsnapshot reads them; it is done for every account, and characters cost ten times as much.
        for (index, line) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .enumerated()
        where !line.isEmpty && line.first != UInt8(ascii: "#") {
            directives.append(try Self.directive(Substring(line), number: index + 1, allowed: allowed))
        }
        self.directives = directives
        try checkWhole(account: account)
    }

    private static func directive(_ line: Substring, number: Int, allowed: Set<String>) throws(Invalid) -> Directive {
        func refuse(_ reason: String, _ cure: String) -> Invalid { Invalid(line: number, reason: reason, cure: cure) }

        let isPlain = line.utf8.allSatisfy { (0x20..<0x7F).contains($0) || $0 == UInt8(ascii: "\t") }
        if isPlain ? line.utf8.first.map({ $0 <= 0x20 }) == true : line.first?.isWhitespace == true {
            throw refuse(
                "the line begins with white space and would continue the one before", "begin it with a directive")
        }
        if !isPlain, line.unicodeScalars.contains(where: { $0.isControl && $0 != "\t" }) {
            throw refuse("the line has control characters", "take them out")
        }
        let fields = line.utf8.split(separator: UInt8(ascii: "\t")).map { String(Substring($0)) }
        guard fields.count > 1 else {
            throw refuse("the line has no TAB between its fields", "separate fields by TABs, not by blanks")
        }
        let blank = UInt8(ascii: " ")
        if let field = fields.first(where: { $0.utf8.first == blank || $0.utf8.last == blank }) {
            throw refuse("the field \"\(field)\" begins or ends with a blank", "separate fields by TABs alone")
        }
        guard allowed.contains(fields[0]) else {
            throw refuse(
                "the template has no directive \(fields[0])", "take it out, or write it into the template itself")
        }
        return Directive(line: number, name: fields[0], fields: Array(fields.dropFirst()))
    }

    private func checkWhole(account: FilePath) throws(Invalid) {
        try demand("config_version", "1.2")
        try demand("no_create_root", "1")
        let root = try only("snapshot_root", cure: "write snapshot_root<TAB>%SNAPSHOT_ROOT%/")
        _ = try only("cmd_rsync", cure: "write cmd_rsync<TAB>%RSYNC%")
        let path = FilePath(root.fields.joined(separator: "\t"))
        guard path.isAbsolute, path.isLexicallyNormal, path != account, path.starts(with: account) else {
            throw Invalid(
                line: root.line, reason: "snapshot_root \(path) does not lie inside \(account)",
                cure: "write snapshot_root<TAB>%SNAPSHOT_ROOT%/")
        }
        guard let first = directives.first(where: { $0.name == "backup" }) else {
            throw Invalid(
                line: lastLine, reason: "there is no backup line", cure: "write backup<TAB>%HOME%/incoming/<TAB>./")
        }
        guard root.line < first.line else {
            throw Invalid(
                line: first.line, reason: "backup stands before snapshot_root", cure: "put snapshot_root above it")
        }
        guard directives.contains(where: { $0.name == "retain" }) else {
            throw Invalid(
                line: lastLine, reason: "there is no retain line", cure: "write %RETAIN% on a line of its own")
        }
        try checkArguments()
    }

    /// Without an own `rsync_long_args` rsnapshot repeats the whole path inside each snapshot, where clients expect the contents.
    private func checkArguments() throws(Invalid) {
        let cure = "write rsync_long_args<TAB>--delete --numeric-ids --delete-excluded"
        let long = try only("rsync_long_args", cure: cure)
        let words = long.fields.flatMap { $0.split(separator: " ") }
        if words.contains("--relative") || words.contains(where: { $0.hasPrefix("-R") }) {
            throw Invalid(line: long.line, reason: "rsync_long_args has --relative", cure: cure)
        }
        for short in directives where short.name == "rsync_short_args" && short.fields.joined().contains("R") {
            throw Invalid(line: short.line, reason: "rsync_short_args has R, which is --relative", cure: "write -a")
        }
    }

    private var lastLine: Int { directives.last?.line ?? 1 }

    private func only(_ name: String, cure: String) throws(Invalid) -> Directive {
        guard let place = directives.firstIndex(where: { $0.name == name }) else {
            throw Invalid(line: lastLine, reason: "\(name) is missing", cure: cure)
        }
        if let second = directives[(place + 1)...].first(where: { $0.name == name }) {
            throw Invalid(line: second.line, reason: "\(name) stands there twice", cure: "leave one")
        }
        return directives[place]
    }

    private func demand(_ name: String, _ value: String) throws(Invalid) {
        let cure = "write \(name)<TAB>\(value)"
        let directive = try only(name, cure: cure)
        guard directive.fields == [value] else {
            throw Invalid(
                line: directive.line, reason: "\(name) is \(directive.fields.joined(separator: " "))", cure: cure)
        }
    }
}
