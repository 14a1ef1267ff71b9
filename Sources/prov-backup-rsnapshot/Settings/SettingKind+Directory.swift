import DaemonKit
import DirectoryModel

extension SettingKind where Value == DN {
    /// A distinguished name (RFC 4514).
    static var dn: Self {
        Self(form: "distinguished name") { text throws(SettingValueError) in
            do throws(DNSyntaxError) {
                return try DN(parsing: text)
            } catch {
                throw SettingValueError("character \(error.position): \(error.reason)", cure: error.cure)
            }
        } render: {
            $0.description
        }
    }
}

extension SettingKind where Value == AttributeName {
    /// The name of an attribute type (RFC 4512, section 2.5).
    static var attribute: Self {
        Self(form: "attribute name") { text throws(SettingValueError) in
            do throws(AttributeName.Invalid) {
                return try AttributeName(parsing: text)
            } catch {
                throw SettingValueError(
                    "this is not an attribute name", cure: "write letters, digits and hyphens, beginning with a letter")
            }
        } render: {
            $0.spelling
        }
    }
}

extension SettingKind where Value == [AttributeName] {
    /// Names of attribute types split by blanks, none twice.
    static var attributes: Self {
        let attribute = SettingKind<AttributeName>.attribute
        return Self(form: "attribute names split by blanks") { text throws(SettingValueError) in
            var names: [AttributeName] = []
            for word in text.split(whereSeparator: { $0 == " " || $0 == "\t" }) {
                let name = try attribute.parse(String(word))
                guard !names.contains(name) else {
                    throw SettingValueError("an attribute is named twice", cure: "name each once")
                }
                names.append(name)
            }
            return names
        } render: {
            $0.map(\.spelling).joined(separator: " ")
        }
    }
}

extension SettingKind where Value == Filter? {
    /// A search filter (RFC 4515), or empty. The filter of the old daemon's sample files, which asked for what had
    /// changed since its cookie, means no condition.
    static var condition: Self {
        Self(form: "search filter, or empty") { text throws(SettingValueError) in
            let folded = text.lowercased().filter { $0 != " " && $0 != "\t" }
            if folded.isEmpty || folded == "(&(entrycsn>=%entrycsn%)(objectclass=*))" { return nil }
            guard !folded.contains("%entrycsn%") else {
                throw SettingValueError(
                    "the placeholder %entryCSN% is no longer filled in",
                    cure: "write the further condition alone, or leave the value empty")
            }
            do throws(FilterSyntaxError) {
                return try Filter(parsing: text)
            } catch {
                throw SettingValueError("character \(error.position): \(error.reason)", cure: error.cure)
            }
        } render: {
            $0?.description ?? ""
        }
    }
}
