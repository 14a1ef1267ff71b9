/// `file` URLs (RFC 8089), the only kind that LDIF values come from.
public enum FileURL {
    /// The path that a URL such as `file:///srv/photo%201.jpg` names.
    ///
    /// - Returns: nil when the URL is of another kind, names another host or no absolute path, or is malformed.
    public static func path(_ url: String) -> String? {
        let scheme = "file:"
        guard url.prefix(scheme.count).lowercased() == scheme else { return nil }
        var rest = url.dropFirst(scheme.count)
        if rest.hasPrefix("//") {
            rest = rest.dropFirst(2)
            if rest.lowercased().hasPrefix("localhost/") { rest = rest.dropFirst("localhost".count) }
        }
        guard rest.hasPrefix("/") else { return nil }
        let bytes = Array(rest.utf8)
        var output: [UInt8] = []
        var place = 0
        while place < bytes.count {
            if bytes[place] == UInt8(ascii: "%") {
                guard place + 2 < bytes.count, let high = bytes[place + 1].hexDigitValue,
                    let low = bytes[place + 2].hexDigitValue
                else { return nil }
                output.append(high << 4 | low)
                place += 3
            } else {
                output.append(bytes[place])
                place += 1
            }
        }
        guard !output.contains(0) else { return nil }
        return String(validating: output, as: UTF8.self)
    }
}
