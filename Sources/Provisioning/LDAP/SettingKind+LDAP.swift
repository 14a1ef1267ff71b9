package import LDAP
package import JobCore

extension SettingKind where Value == DN {
    /// A distinguished name (RFC 4514).
    package static var dn: SettingKind<DN> {
        Self(form: "distinguished name") { text throws(SettingValueError) in
            do throws(LDAPSyntaxError) {
                return try DN(parsing: text)
            } catch {
                throw SettingValueError("character \(error.position): \(error.reason)", hint: error.hint)
            }
        }
    }
}

extension SettingKind where Value == AttributeName {
    /// The name of an attribute type (RFC 4512, section 2.5).
    package static var attribute: SettingKind<AttributeName> {
        Self(form: "attribute name") { text throws(SettingValueError) in
            guard let name = AttributeName(parsing: text) else {
                throw SettingValueError(
                    "this is not an attribute name", hint: "write letters, digits and hyphens, beginning with a letter")
            }
            return name
        }
    }
}

extension SettingKind where Value == [AttributeName] {
    /// Names of attribute types separated by blanks, none twice.
    package static var attributes: SettingKind<[AttributeName]> {
        let list = Self.list("attribute names split by blanks", of: .attribute)
        return Self(form: list.form) { text throws(SettingValueError) in
            let names = try list.parse(text)
            guard Set(names).count == names.count else {
                throw SettingValueError("an attribute is named twice", hint: "name each once")
            }
            return names
        } render: {
            list.render($0)
        }
    }
}

extension SettingKind where Value == Filter? {
    /// A search filter (RFC 4515), or empty. The filter of the old daemon's sample files, which searched for changes since its cookie, means
    /// no condition.
    package static var condition: SettingKind<Filter?> {
        Self(form: "search filter, or empty") { text throws(SettingValueError) in
            let folded = text.lowercased().filter { $0 != " " && $0 != "\t" }
            if folded.isEmpty || folded == "(&(entrycsn>=%entrycsn%)(objectclass=*))" { return nil }
            guard !folded.contains("%entrycsn%") else {
                throw SettingValueError(
                    "the placeholder %entryCSN% is no longer filled in",
                    hint: "write the further condition alone, or leave the value empty")
            }
            guard let filter = Filter(parsing: text) else {
                throw SettingValueError(
                    "not a search filter (RFC 4515)",
                    hint:
                        #"write (name=value) or lists such as (&(a=b)(c=d)), and ( ) * \ in a value as \28 \29 \2a \5c"#
                )
            }
            return filter
        } render: {
            $0?.description ?? ""
        }
    }
}
