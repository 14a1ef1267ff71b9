import CLDAP
import Glibc

/// A request to the server.
enum Request: Hashable, Sendable {
    /// The page size is in a control.
    case search(SearchRequest)
    case add(Entry)
    case modify(DN, [Modification])
    case delete(DN)
    case rename(DN, to: RDN, deleteOldRDN: Bool, newSuperior: DN?)
    case bind(Credentials)
    case whoAmI
}

extension Request: CustomStringConvertible {
    /// The operation and its DN, without values, which may be secret.
    var description: String {
        switch self {
        case .search(let search) where search.scope == .base: "read \(Self.name(search.base))"
        case .search(let search): "search \(Self.name(search.base)) \(Self.beginning(of: search.filter))"
        case .add(let entry): "add \(Self.name(entry.dn))"
        case .modify(let dn, _): "modify \(Self.name(dn))"
        case .delete(let dn): "delete \(Self.name(dn))"
        case .rename(let dn, let rdn, _, nil): "rename \(Self.name(dn)) to \(rdn)"
        case .rename(let dn, let rdn, _, let superior?): "rename \(Self.name(dn)) to \(rdn),\(superior)"
        case .bind(.simple(let dn, _)): "bind \(Self.name(dn))"
        case .bind(.external): "bind (SASL EXTERNAL)"
        case .bind(.anonymous): "bind (anonymous)"
        case .whoAmI: "who am I"
        }
    }

    /// DNs of accounts are longer than the rest of a message.
    private static func beginning(of filter: Filter) -> String {
        let text = "\(filter)"
        return text.count > 100 ? "\(text.prefix(100))…" : text
    }

    private static func name(_ dn: DN) -> String { dn.isEmpty ? "the root DSE" : dn.description }
}

// MARK: - Sending

extension LDAPHandle {
    /// Sends a request, or keeps it as output (``hasOutput``) when the socket is full.
    /// - Returns: the message id of the answers.
    /// - Throws: an error with `isConnectionLost` when the connection is lost, else one about the request alone.
    func send(_ request: Request, controls: [Control] = []) throws(LDAPError) -> Int32 {
        var arena = CArena()
        var messageID: Int32 = -1
        let code: Int32
        do throws(CArena.ContainsNUL) {
            code = try send(request, controls, &arena, &messageID)
        } catch {
            throw LDAPError(
                .paramError, operation: "\(request)", server: "\(server)", diagnostic: "a name contains a NUL character"
            )
        }
        let result = ResultCode(rawValue: code)
        guard result != .success else { return messageID }
        let isOurs = [.encodingError, .filterError, .paramError, .notSupported, .noMemory].contains(result)
        throw LDAPError(
            result, operation: "\(request)", server: "\(server)", diagnostic: lastDiagnostic, isConnectionLost: !isOurs)
    }

    private func send(
        _ request: Request, _ controls: [Control], _ arena: inout CArena, _ messageID: inout Int32
    ) throws(CArena.ContainsNUL) -> Int32 {
        let list = controls.isEmpty ? nil : unsafe try arena.controls(controls)
        switch request {
        case .search(let search):
            let names = search.attributes.isEmpty ? nil : unsafe try arena.strings(search.attributes.map(\.spelling))
            let depth =
                switch search.scope {
                case .base: LDAP_SCOPE_BASE
                case .oneLevel: LDAP_SCOPE_ONELEVEL
                case .subtree: LDAP_SCOPE_SUBTREE
                }
            return unsafe ldap_search_ext(
                pointer, try arena.string(search.base.description), ber_int_t(depth),
                try arena.string(search.filter.description), names, 0, list, nil, nil, LDAP_NO_LIMIT, &messageID)
        case .add(let entry):
            let values = unsafe try arena.modifications(
                entry.attributes.map { (LDAP_MOD_ADD, $0.name.spelling, $0.values) })
            return unsafe ldap_add_ext(pointer, try arena.string(entry.dn.description), values, list, nil, &messageID)
        case .modify(let dn, let modifications):
            let changes = unsafe try arena.modifications(
                modifications.map { (Self.operation($0.action), $0.attribute.spelling, $0.values) })
            return unsafe ldap_modify_ext(pointer, try arena.string(dn.description), changes, list, nil, &messageID)
        case .delete(let dn):
            return unsafe ldap_delete_ext(pointer, try arena.string(dn.description), list, nil, &messageID)
        case .rename(let dn, let rdn, let deleteOldRDN, let newSuperior):
            let superior = newSuperior == nil ? nil : unsafe try arena.string(newSuperior?.description ?? "")
            return unsafe ldap_rename(
                pointer, try arena.string(dn.description), try arena.string(rdn.description), superior,
                deleteOldRDN ? 1 : 0, list, nil, &messageID)
        case .bind(.simple(let dn, let password)):
            let secret = unsafe arena.value(Array(password.expose().utf8))
            return unsafe ldap_sasl_bind(pointer, try arena.string(dn.description), nil, secret, list, nil, &messageID)
        case .bind(.anonymous):
            return unsafe ldap_sasl_bind(pointer, "", nil, arena.value([]), list, nil, &messageID)
        case .bind(.external):
            return unsafe ldap_sasl_bind(pointer, nil, "EXTERNAL", arena.value([]), list, nil, &messageID)
        case .whoAmI:
            return unsafe ldap_extended_operation(
                pointer, ServerFeature.whoAmI.rawValue, nil, list, nil, &messageID)
        }
    }

    private static func operation(_ action: Modification.Action) -> Int32 {
        switch action {
        case .add: LDAP_MOD_ADD
        case .delete: LDAP_MOD_DELETE
        case .replace: LDAP_MOD_REPLACE
        case .increment: LDAP_MOD_INCREMENT
        }
    }

    /// Abandons the operation (RFC 4511, section 4.11). The server may have finished it already.
    func abandon(_ messageID: Int32) throws(LDAPError) {
        let code = unsafe ldap_abandon_ext(pointer, messageID, nil, nil)
        guard code != LDAP_SUCCESS else { return }
        throw LDAPError(
            ResultCode(rawValue: code), operation: "abandon", server: "\(server)", isConnectionLost: true)
    }
}

// MARK: - C's shapes

/// Memory in C's shapes for the time of one call. Freed when it goes out of scope.
@safe struct CArena: ~Copyable {
    private var blocks: [UnsafeMutableRawPointer] = unsafe []
    /// The messages of the last block that have not been returned yet.
    private var rest = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)

    /// Room for all of a usual request.
    private static let blockSize = 4096
    /// Fits every type.
    private static let alignment = 16

    deinit { unsafe blocks.forEach { unsafe $0.deallocate() } }

    /// A text that C would truncate at its NUL.
    struct ContainsNUL: Error {}

    private mutating func allocate<T>(_ count: Int, of type: T.Type) -> UnsafeMutablePointer<T> {
        let pieces = max(1, (count * MemoryLayout<T>.stride + Self.alignment - 1) / Self.alignment)
        let size = pieces * Self.alignment
        guard let place = unsafe rest.baseAddress, unsafe size <= rest.count else {
            let whole = max(size, Self.blockSize)
            let block = UnsafeMutableRawPointer.allocate(byteCount: whole, alignment: Self.alignment)
            unsafe blocks.append(block)
            unsafe rest = UnsafeMutableRawBufferPointer(start: block + size, count: whole - size)
            return unsafe block.bindMemory(to: type, capacity: count)
        }
        unsafe rest = UnsafeMutableRawBufferPointer(start: place + size, count: rest.count - size)
        return unsafe place.bindMemory(to: type, capacity: count)
    }

    /// A text with its terminating NUL.
    mutating func string(_ text: String) throws(ContainsNUL) -> UnsafeMutablePointer<CChar> {
        var text = text
        let count = text.utf8.count
        let place = unsafe allocate(count + 1, of: CChar.self)
        text.withUTF8 { bytes in
            if let start = bytes.baseAddress { unsafe memcpy(place, start, count) }
        }
        unsafe (place + count).initialize(to: 0)
        guard unsafe strlen(place) == count else { throw ContainsNUL() }
        return unsafe place
    }

    /// Bytes with their number.
    mutating func value(_ bytes: [UInt8]) -> UnsafeMutablePointer<berval> {
        let content = unsafe allocate(bytes.count, of: CChar.self)
        unsafe bytes.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress { unsafe memcpy(content, start, bytes.count) }
        }
        let value = unsafe allocate(1, of: berval.self)
        unsafe value.initialize(to: berval(bv_len: ber_len_t(bytes.count), bv_val: content))
        return unsafe value
    }

    /// An array of pointers with its terminating nil.
    mutating func list<T>(_ pointers: [UnsafeMutablePointer<T>]) -> UnsafeMutablePointer<UnsafeMutablePointer<T>?> {
        let list = unsafe allocate(pointers.count + 1, of: UnsafeMutablePointer<T>?.self)
        for place in unsafe 0..<pointers.count { unsafe (list + place).initialize(to: pointers[place]) }
        unsafe (list + pointers.count).initialize(to: nil)
        return unsafe list
    }

    /// Texts in an array.
    mutating func strings(_ texts: [String]) throws(ContainsNUL) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?> {
        var pointers: [UnsafeMutablePointer<CChar>] = unsafe []
        for text in texts { unsafe pointers.append(try string(text)) }
        return unsafe list(pointers)
    }

    /// Changes in an array (`LDAPMod`).
    mutating func modifications(
        _ changes: [(operation: Int32, attribute: String, values: [AttributeValue])]
    ) throws(ContainsNUL) -> UnsafeMutablePointer<UnsafeMutablePointer<LDAPMod>?> {
        var pointers: [UnsafeMutablePointer<LDAPMod>] = unsafe []
        for change in changes {
            var values: [UnsafeMutablePointer<berval>] = unsafe []
            for item in change.values { unsafe values.append(value(item.bytes)) }
            let place = unsafe allocate(1, of: LDAPMod.self)
            var modification = unsafe LDAPMod()
            unsafe modification.mod_op = change.operation | LDAP_MOD_BVALUES
            unsafe modification.mod_type = try string(change.attribute)
            unsafe modification.mod_vals.modv_bvals = change.values.isEmpty ? nil : list(values)
            unsafe place.initialize(to: modification)
            unsafe pointers.append(place)
        }
        return unsafe list(pointers)
    }

    /// Controls in an array.
    mutating func controls(_ controls: [Control]) throws(ContainsNUL)
        -> UnsafeMutablePointer<UnsafeMutablePointer<LDAPControl>?>
    {
        var pointers: [UnsafeMutablePointer<LDAPControl>] = unsafe []
        for control in controls {
            let place = unsafe allocate(1, of: LDAPControl.self)
            var item = unsafe LDAPControl()
            unsafe item.ldctl_oid = try string(control.identifier)
            unsafe item.ldctl_iscritical = control.isCritical ? 1 : 0
            if let bytes = control.value { unsafe item.ldctl_value = value(bytes).pointee }
            unsafe place.initialize(to: item)
            unsafe pointers.append(place)
        }
        return unsafe list(pointers)
    }
}
