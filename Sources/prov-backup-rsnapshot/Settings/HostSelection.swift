import Glibc
import JobCore

/// Which accounts are this daemon's (setting `HOST`).
enum HostSelection: Hashable, Sendable {
    /// All of them.
    case any
    /// Those that name this host, by its short or its full name.
    case auto
    /// Those that name one of these hosts.
    case listed([String])

    /// The names to look for; `nil` for all. Asks the system's resolver for the full name where the kernel knows only
    /// the short one.
    var names: [String]? {
        switch self {
        case .any: nil
        case .auto: ThisHost.names
        case .listed(let hosts): hosts
        }
    }
}

extension SettingKind where Value == HostSelection {
    static var hostSelection: Self {
        let list = SettingKind<[String]>.hosts
        return Self(form: "any, auto, or host names split by blanks") { text throws(SettingValueError) in
            let hosts = try list.parse(text)
            switch hosts.map({ $0.lowercased() }) {
            case ["any"]: return .any
            case ["auto"]: return .auto
            case []: throw SettingValueError("nothing is named", hint: "write any, auto, or host names split by blanks")
            case let words where words.contains("any") || words.contains("auto"):
                throw SettingValueError(
                    "any and auto stand alone", hint: "write any, auto, or host names split by blanks")
            default: return .listed(hosts)
            }
        } render: { selection in
            switch selection {
            case .any: "any"
            case .auto: "auto"
            case .listed(let hosts): hosts.joined(separator: " ")
            }
        }
    }
}

/// The names of this machine.
enum ThisHost {
    /// As the kernel has it, usually the short name.
    static var name: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Short and full name, without doubles.
    static var names: [String] {
        let name = name
        let short = name.split(separator: ".").first.map(String.init) ?? name
        var names = [short]
        for other in [name, canonical(name)].compactMap(\.self) where !names.contains(other) { names.append(other) }
        return names
    }

    private static func canonical(_ name: String) -> String? {
        var hints = addrinfo()
        hints.ai_flags = AI_CANONNAME
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &list) == 0, let list else { return nil }
        defer { freeaddrinfo(list) }
        guard let text = list.pointee.ai_canonname else { return nil }
        let full = String(cString: text)
        // A resolver that maps this host to the loopback address may call it localhost: that names every host.
        return full.lowercased().hasPrefix(name.lowercased()) ? full : nil
    }
}
