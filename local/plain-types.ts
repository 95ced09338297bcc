/** Writes type declarations that do not import the libraries they were derived with. */
import ts from 'typescript5';

/**
 * The exported types of a module as a declaration file that imports nothing: a type that is computed is written out, by
 * its parts or by the name of another exported type. Interfaces and generic types are copied from the source.
 */
export function plainTypes(program: ts.Program, source: ts.SourceFile): string {
  const checker = program.getTypeChecker();
  const module = checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`${source.fileName} is not a module`);
  const exported = checker.getExportsOfModule(module).map((symbol) => {
    const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    const [declaration] = target.declarations ?? [];
    if (!declaration) throw new Error(`${symbol.name} has no declaration`);
    return { name: symbol.name, target, declaration, type: checker.getDeclaredTypeOfSymbol(target) };
  });
  const own = new Set(
    exported.filter(({ declaration }) => ts.isInterfaceDeclaration(declaration)).map((e) => e.target),
  );

  const declarations = exported.map(({ name, target, declaration, type }) => {
    const doc = docOf(target.getDocumentationComment(checker), '');
    if (ts.isInterfaceDeclaration(declaration)) return `${doc}export ${declaration.getText().replace(/^export /, '')}`;
    return `${doc}export type ${name} = ${written(type, '', name)};`;
  });
  return `${declarations.join('\n\n')}\n`;

  /** `self` is the name being declared, whose type is written by its parts. */
  function written(type: ts.Type, indent: string, self?: string): string {
    const named = exported.find((other) => other.name !== self && same(other.type, type));
    if (named) return named.name;
    const interfaceSymbol = type.getSymbol();
    if (interfaceSymbol && own.has(interfaceSymbol)) {
      const args = checker.getTypeArguments(type as ts.TypeReference).map((argument) => written(argument, indent));
      return args.length > 0 ? `${interfaceSymbol.name}<${args.join(', ')}>` : interfaceSymbol.name;
    }
    if (type.flags & ts.TypeFlags.Boolean) return 'boolean';
    if (type.isUnion()) return union(type, indent);
    if (type.isIntersection()) return type.types.map((part) => written(part, indent)).join(' & ');
    if (checker.isArrayType(type)) {
      const [element] = checker.getTypeArguments(type as ts.TypeReference);
      return `Array<${element ? written(element, indent) : 'unknown'}>`;
    }
    if (type.flags & ts.TypeFlags.Object) return object(type, indent);
    return checker.typeToString(type);
  }

  function union(type: ts.UnionType, indent: string): string {
    const rest = checker.getNonNullableType(type);
    if (rest === type) {
      const parts = type.types.map((part) => written(part, indent));
      const short = parts.join(' | ');
      return short.length <= 100 ? short : parts.map((part) => `\n${indent}  | ${part}`).join('');
    }
    // An optional property's type includes a marker for its absence, which is left out.
    const nothing = [checker.getNullType(), checker.getUndefinedType()].filter((part) => type.types.includes(part));
    return [written(rest, indent), ...nothing.map((part) => checker.typeToString(part))].join(' | ');
  }

  function object(type: ts.Type, indent: string): string {
    const inner = `${indent}  `;
    if (type.getCallSignatures().length > 0) throw new Error(`${checker.typeToString(type)} is a function`);
    const properties = type.getProperties().map((property) => {
      const optional = property.flags & ts.SymbolFlags.Optional ? '?' : '';
      const doc = docOf(property.getDocumentationComment(checker), inner);
      return `${doc}${inner}${property.name}${optional}: ${written(checker.getTypeOfSymbol(property), inner)};`;
    });
    const indexes = checker
      .getIndexInfosOfType(type)
      .map((index) => `${inner}[key: ${checker.typeToString(index.keyType)}]: ${written(index.type, inner)};`);
    const lines = [...properties, ...indexes];
    const short = `{ ${lines
      .map((line) => line.trim())
      .join(' ')
      .replace(/;$/, '')} }`;
    return short.length <= 80 && !/[\n*]/.test(short) ? short : ['{', ...lines, `${indent}}`].join('\n');
  }

  /** Whether two types are the same, however they were computed. */
  function same(a: ts.Type, b: ts.Type): boolean {
    if (a === b) return true;
    const compared = ts.TypeFlags.Object | ts.TypeFlags.Intersection;
    if (a.flags !== b.flags || !(a.flags & compared) || checker.isArrayType(a) || checker.isArrayType(b)) return false;
    return (
      a.getProperties().length === b.getProperties().length &&
      a.getProperties().every(({ name }) => b.getProperty(name)) &&
      checker.getIndexInfosOfType(a).length === checker.getIndexInfosOfType(b).length &&
      checker.isTypeAssignableTo(a, b) &&
      checker.isTypeAssignableTo(b, a)
    );
  }
}

function docOf(parts: ts.SymbolDisplayPart[], indent: string): string {
  const text = ts.displayPartsToString(parts);
  return text ? `${indent}/** ${text.replace(/\s*\n\s*/g, ' ')} */\n` : '';
}
